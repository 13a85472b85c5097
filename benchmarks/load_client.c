/*
 * load_client.c: many requests or many streams through a gateway, counted by how they ended.
 *
 *   load_client mixed PORT MODEL CONNECTIONS REQUESTS CANCELS ERRORS SEED     the two in parts of a thousand
 *   load_client streams PORT MODEL STREAMS CHUNKS GAP                         all open at once, GAP seconds between chunks
 *
 * Prints one figure a line: name TAB value. `mixed` sends plain and streamed chats; a cancel closes its connection after
 * the head of the request, after the whole request, or after the first bytes of the answer; an error is a status of the
 * engine or a stream that breaks off. `wrong` counts what ended otherwise than it had to.
 */
#define _GNU_SOURCE
#include <math.h>
#include <unistd.h>

#include "client.h"

#define MOST_CONNECTIONS 8192
#define HEAD_BYTES 4096
#define TAIL 7 /* CR LF 0 CR LF CR LF */

enum { PLAIN, STREAMED, CANCEL_HALF, CANCEL_SENT, CANCEL_ANSWERING, STATUS, BROKEN };

typedef struct {
    int descriptor, kind, status, chunked, done;
    size_t kept;
    long missing; /* -1 before the head is complete */
    long events;
    double last;
    char tail[TAIL];
    char head[HEAD_BYTES];
} connection;

static connection *connections;
static const char *model;
static int port, epoll;
static uint64_t state;
static long endings[3], wrong; /* whole, cancelled, failed as asked */

static uint32_t dice(uint32_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % bound);
}

static void ask(connection *one, int kind, int streamed, const char *how)
{
    char request[1024], body[256];
    int size = snprintf(body, sizeof body, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]%s}",
                        model, streamed ? ",\"stream\":true" : "");
    int length = snprintf(request, sizeof request,
                          "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
                          "%scontent-length: %d\r\n\r\n%s", how, size, body);
    size_t sent = (size_t)(kind == CANCEL_HALF ? length - size / 2 : length);
    one->kind = kind;
    one->missing = -1;
    one->kept = 0;
    one->status = one->chunked = one->done = 0;
    one->events = 0;
    memset(one->tail, 0, TAIL);
    one->last = now();
    if (send(one->descriptor, request, sent, MSG_NOSIGNAL) != (ssize_t)sent)
        fail("send");
}

/* Take what has come; `done` is set when the answer is whole. Returns bytes of the body that came. */
static void take(connection *one, const char *data, size_t size)
{
    if (one->missing < 0) {
        if (one->kept + size >= sizeof one->head)
            fail("a head is too long");
        memcpy(one->head + one->kept, data, size);
        one->kept += size;
        one->head[one->kept] = 0;
        char *end = strstr(one->head, "\r\n\r\n");
        if (end == NULL)
            return;
        *end = 0;
        char *length = strcasestr(one->head, "content-length:");
        one->status = atoi(one->head + 9);
        one->chunked = length == NULL;
        one->missing = length ? atol(length + 15) : 0;
        data = end + 4;
        size = one->kept - (size_t)(data - one->head);
    }
    if (one->chunked) {
        size_t some = size < TAIL ? size : TAIL;
        memmove(one->tail, one->tail + some, TAIL - some);
        memcpy(one->tail + TAIL - some, data + size - some, some);
        one->done = memcmp(one->tail, "\r\n0\r\n\r\n", TAIL) == 0;
    } else {
        one->missing -= (long)size;
        one->done = one->missing <= 0;
    }
}

static void draw(connection *one, uint32_t cancels, uint32_t errors)
{
    static const char *const statuses[] = {"x-engine-status: 500\r\n", "x-engine-status: 429\r\n",
                                           "x-engine-status: 503\r\n", "x-engine-status: 400\r\n"};
    uint32_t drawn = dice(1000);
    if (drawn < cancels)
        ask(one, CANCEL_HALF + (int)dice(3), 1, "x-engine-chunks: 500\r\nx-engine-gap: 0.01\r\n");
    else if (drawn < cancels + errors && dice(5))
        ask(one, STATUS, (int)dice(2), statuses[dice(4)]);
    else if (drawn < cancels + errors)
        ask(one, BROKEN, 1, "x-engine-cut: 2\r\nx-engine-chunks: 5\r\n");
    else
        ask(one, (int)dice(2), dice(2) != 0, "");
}

static void hang_up(connection *one)
{
    close(one->descriptor);
    one->descriptor = connect_to(port, epoll, one);
}

/* Whether the request on this connection has ended, and how. A stream that breaks off ends with its connection. */
static int has_ended(connection *one, ssize_t size)
{
    if (one->kind == CANCEL_ANSWERING && size > 0) {
        hang_up(one);
        endings[1]++;
        return 1;
    }
    if (size <= 0) {
        endings[2]++;
        wrong += one->kind != BROKEN;
        hang_up(one);
        return 1;
    }
    if (!one->done)
        return 0;
    int asked_to_fail = one->kind == STATUS || one->kind == BROKEN;
    endings[asked_to_fail ? 2 : 0]++;
    wrong += (one->status < 400) == asked_to_fail;
    return 1;
}

static int run_mixed(int count, long requests, uint32_t cancels, uint32_t errors)
{
    static char data[65536];
    struct epoll_event ready[256];
    long begun = 0, ended = 0;
    double started = now();
    for (int i = 0; i < count; i++)
        connections[i].descriptor = connect_to(port, epoll, &connections[i]);
    for (int i = 0; i < count && begun < requests; i++, begun++)
        draw(&connections[i], cancels, errors);
    for (double moved = now(); ended < requests;) {
        int found = epoll_wait(epoll, ready, 256, 5);
        for (int i = 0; i < found; i++) {
            connection *one = ready[i].data.ptr;
            ssize_t size = recv(one->descriptor, data, sizeof data, MSG_DONTWAIT);
            if (one->kind < 0 || (size < 0 && errno == EAGAIN))
                continue;
            if (size > 0)
                take(one, data, (size_t)size);
            if (!has_ended(one, size))
                continue;
            one->kind = -1;
            moved = now();
            ended++;
            if (begun < requests) {
                draw(one, cancels, errors);
                begun++;
            }
        }
        for (int i = 0; i < count; i++) {
            connection *one = &connections[i];
            if ((one->kind == CANCEL_HALF || one->kind == CANCEL_SENT) && now() - one->last > 0.004) {
                hang_up(one);
                endings[1]++;
                ended++;
                one->kind = -1;
                if (begun < requests) {
                    draw(one, cancels, errors);
                    begun++;
                }
            }
        }
        if (now() - moved > 60)
            fail("nothing moves");
    }
    printf("whole\t%ld\ncancelled\t%ld\nfailed\t%ld\nwrong\t%ld\nrequests a second\t%.0f\n", endings[0], endings[1],
           endings[2], wrong, (double)requests / (now() - started));
    return 0;
}

static long events_in(const char *data, size_t size)
{
    long found = 0;
    for (const char *at = data; (at = memmem(at, size - (size_t)(at - data), "\"delta\"", 7)); at++)
        found++;
    return found;
}

static int run_streams(int count, long chunks, double gap)
{
    static char data[65536];
    struct epoll_event ready[512];
    char how[128];
    int started = 0, open = 0;
    long short_ones = 0;
    snprintf(how, sizeof how, "x-engine-chunks: %ld\r\nx-engine-gap: %f\r\n", chunks, gap);
    for (double next = now(); started < count || open > 0;) {
        for (; started < count && now() >= next; started++, open++, next += 0.001) {
            connections[started].descriptor = connect_to(port, epoll, &connections[started]);
            ask(&connections[started], STREAMED, 1, how);
        }
        int found = epoll_wait(epoll, ready, 512, 1);
        double at = now();
        for (int i = 0; i < found; i++) {
            connection *one = ready[i].data.ptr;
            ssize_t size = recv(one->descriptor, data, sizeof data, MSG_DONTWAIT);
            if (size > 0) {
                long seen = events_in(data, (size_t)size);
                take(one, data, (size_t)size);
                if (seen && one->events && started == count)
                    keep(fabs(at - one->last - gap));
                one->last = seen ? at : one->last;
                one->events += seen;
            }
            if (size <= 0 || one->done) {
                short_ones += one->status != 200 || one->events != chunks || !one->done;
                close(one->descriptor);
                open--;
            }
        }
    }
    printf("streams\t%d\nfailed\t%ld\n", count, short_ones);
    if (sample_count > 0)
        print_percentiles("error of the pace");
    return 0;
}

int main(int count, char **arguments)
{
    connections = calloc(MOST_CONNECTIONS, sizeof *connections);
    epoll = epoll_create1(0);
    if (count < 7 || connections == NULL || atoi(arguments[4]) > MOST_CONNECTIONS)
        return 2;
    port = atoi(arguments[2]);
    model = arguments[3];
    if (count == 9 && strcmp(arguments[1], "mixed") == 0) {
        state = strtoull(arguments[8], NULL, 10);
        return run_mixed(atoi(arguments[4]), atol(arguments[5]), (uint32_t)atoi(arguments[6]),
                         (uint32_t)atoi(arguments[7]));
    }
    if (count == 7 && strcmp(arguments[1], "streams") == 0)
        return run_streams(atoi(arguments[4]), atol(arguments[5]), atof(arguments[6]));
    return 2;
}

/*
 * simulator_client.c: a client that costs little enough not to be what is measured.
 *
 *   client requests PORT CONNECTIONS SECONDS       short plain chats, one after the other on each connection
 *   client streams PORT STREAMS TOKENS SECONDS     chats of TOKENS tokens, SECONDS between two, all open at once
 *
 * Prints one figure a line: name TAB value. Arrivals are taken right after epoll says that there is something to read.
 */
#define _GNU_SOURCE
#include <math.h>
#include <unistd.h>

#include "client.h"

#define MOST_CONNECTIONS 4096
#define READ_BYTES 65536
#define START_GAP_SECONDS 0.002
#define SETTLE_SECONDS 0.5
#define EVENT "data: {"

typedef struct {
    int descriptor;
    long events;         /* of a stream: seen so far */
    double last;         /* of a stream: when the last one came; of a request: when it was sent */
    long missing;        /* of a request: bytes of the body still to come, -1 before its head is complete */
    size_t kept;
    char head[4096];
} connection;

static connection connections[MOST_CONNECTIONS];
static char request[2048];
static size_t request_size;
static double measured_from = INFINITY, measured_until = INFINITY;

static void compose(long tokens, int streamed)
{
    char body[512];
    int size = snprintf(body, sizeof body,
                        "{\"model\":\"bench\",\"messages\":[{\"role\":\"user\",\"content\":\"say something\"}],"
                        "\"max_tokens\":%ld,\"ignore_eos\":true%s}",
                        tokens, streamed ? ",\"stream\":true" : "");
    request_size = (size_t)snprintf(request, sizeof request,
                                    "POST /v1/chat/completions HTTP/1.1\r\nhost: engine\r\n"
                                    "content-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                                    size, body);
}

static void start(connection *one, int epoll, int port)
{
    one->descriptor = connect_to(port, epoll, one);
    one->missing = -1;
}

static void ask(connection *one)
{
    one->last = now();
    if (send(one->descriptor, request, request_size, 0) != (ssize_t)request_size)
        fail("send");
}

/* Returns whether the answer on this connection is complete. */
static int take_answer(connection *one, const char *data, size_t size)
{
    if (one->missing < 0) {
        if (one->kept + size >= sizeof one->head)
            fail("a head is too long");
        memcpy(one->head + one->kept, data, size);
        one->kept += size;
        one->head[one->kept] = 0;
        char *end = strstr(one->head, "\r\n\r\n"), *length = strcasestr(one->head, "content-length:");
        if (end == NULL)
            return 0;
        if (strncmp(one->head, "HTTP/1.1 200", 12) != 0 || length == NULL)
            fail("an answer is not 200");
        one->missing = atol(length + 15) - (long)(one->kept - (size_t)(end + 4 - one->head));
        one->kept = 0;
    } else {
        one->missing -= (long)size;
    }
    if (one->missing > 0)
        return 0;
    one->missing = -1;
    return 1;
}

static void run_requests(int port, int count, double seconds)
{
    static char data[READ_BYTES];
    struct epoll_event ready[256];
    int epoll = epoll_create1(0);
    long answers = 0;
    compose(16, 0);
    for (int i = 0; i < count; i++) {
        start(&connections[i], epoll, port);
        ask(&connections[i]);
    }
    double begun = now(), end = begun + seconds;
    while (now() < end) {
        int found = epoll_wait(epoll, ready, 256, 100);
        for (int i = 0; i < found; i++) {
            connection *one = ready[i].data.ptr;
            ssize_t size = recv(one->descriptor, data, sizeof data, MSG_DONTWAIT);
            if (size <= 0)
                fail("recv");
            if (take_answer(one, data, (size_t)size)) {
                answers++;
                keep(now() - one->last);
                ask(one);
            }
        }
    }
    printf("plain chats of 16 tokens a second\t%.1f\n", (double)answers / (now() - begun));
    print_percentiles("plain chat, milliseconds");
}

/* Counts the events in what has come, and keeps the error of the time since the last one while all streams are open.
 * The first two, role and first token, are no measure of the pace. */
static void take_events(connection *one, const char *data, size_t size, double at, double pace)
{
    const char *end = data + size;
    for (const char *place = data; (place = memmem(place, (size_t)(end - place), EVENT, sizeof EVENT - 1)); place++) {
        if (one->events >= 2 && at >= measured_from && at < measured_until)
            keep(fabs(at - one->last - pace));
        one->events++;
        one->last = at;
    }
}

static void run_streams(int port, int count, long tokens, double pace)
{
    static char data[READ_BYTES];
    struct epoll_event ready[256];
    int epoll = epoll_create1(0), started = 0, open = 0;
    long events = 0;
    double next = now();
    compose(tokens, 1);
    while (started < count || open > 0) {
        for (; started < count && now() >= next; started++, open++, next += START_GAP_SECONDS) {
            start(&connections[started], epoll, port);
            ask(&connections[started]);
            if (started == count - 1)
                measured_from = now() + SETTLE_SECONDS;
        }
        int found = epoll_wait(epoll, ready, 256, 1);
        for (int i = 0; i < found; i++) {
            connection *one = ready[i].data.ptr;
            ssize_t size = recv(one->descriptor, data, sizeof data, MSG_DONTWAIT);
            if (size <= 0)
                fail("recv");
            take_events(one, data, (size_t)size, now(), pace);
            if (memmem(data, (size_t)size, "[DONE]", 6)) {
                if (measured_until == INFINITY)
                    measured_until = now();
                events += one->events;
                close(one->descriptor);
                open--;
            }
        }
    }
    if (events != count * (tokens + 1))
        fail("tokens are missing");
    printf("tokens a second while all streams are open\t%.1f\n",
           (double)sample_count / (measured_until - measured_from));
    print_percentiles("error of the time between tokens, milliseconds");
}

int main(int count, char **arguments)
{
    if (count == 5 && strcmp(arguments[1], "requests") == 0)
        run_requests(atoi(arguments[2]), atoi(arguments[3]), atof(arguments[4]));
    else if (count == 6 && strcmp(arguments[1], "streams") == 0 && atoi(arguments[3]) <= MOST_CONNECTIONS)
        run_streams(atoi(arguments[2]), atoi(arguments[3]), atol(arguments[4]), atof(arguments[5]));
    else
        return 2;
    return 0;
}

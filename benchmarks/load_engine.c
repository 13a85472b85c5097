/*
 * load_engine.c: an engine that costs little enough to serve thousands of streams beside what is measured.
 *
 *   load_engine HOST PORT
 *
 * A request's own headers say how it is answered, as for tests/gateway/engine.py:
 *   x-engine-status   an error of this status
 *   x-engine-chunks   events of a streamed answer (3), x-engine-gap: seconds between them (0)
 *   x-engine-cut      after so many events the connection is closed
 * A body that holds `"stream":true` gets a stream that ends with usage and [DONE]; any other a chat completion.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 16384
#define REQUEST_BYTES 4096
#define TICK_SECONDS 0.002

typedef struct {
    int descriptor;      /* -1: free */
    size_t kept;         /* of the head, or of the whole request when it is small */
    long missing;        /* bytes of the body still to come; -1 before the head is complete */
    int streams, left, cut;
    double gap, next;
    char request[REQUEST_BYTES];
} connection;

static connection *connections;
static int highest, paced;
static const char CHAT[] =
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":"
    "{\"role\":\"assistant\",\"content\":\"hello\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":8,\"total_tokens\":18}}";
static const char EVENT[] = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}],\"model\":\"m\"}\n\n";
static const char USAGE[] =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3,\"total_tokens\":13}}\n\n"
    "data: [DONE]\n\n";

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void leave(connection *one)
{
    paced -= one->left > 0;
    close(one->descriptor);
    one->descriptor = -1;
    one->left = 0;
}

/* Send all of it; a receiver that is too slow for its socket's buffer is let go. Returns whether it is still there. */
static int put(connection *one, const char *data, size_t size)
{
    if (send(one->descriptor, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size)
        return 1;
    leave(one);
    return 0;
}

static int put_chunk(connection *one, const char *data, size_t size)
{
    char chunk[512];
    int length = snprintf(chunk, sizeof chunk, "%zx\r\n%.*s\r\n", size, (int)size, data);
    return put(one, chunk, (size_t)length);
}

static const char *header(const connection *one, const char *name)
{
    const char *found = strcasestr(one->request, name);
    return found ? found + strlen(name) : NULL;
}

static void answer(connection *one, int status, const char *kind, const char *body)
{
    char whole[1024];
    int length = snprintf(whole, sizeof whole, "HTTP/1.1 %d Fixed\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s",
                          status, kind, strlen(body), body);
    put(one, whole, (size_t)length);
}

/* The next event of a stream, or its end. */
static void step(connection *one, double at)
{
    if (one->cut-- == 0) {
        leave(one);
        return;
    }
    if (--one->left > 0) {
        one->next += one->gap;
        if (one->next < at)
            one->next = at;
        put_chunk(one, EVENT, sizeof EVENT - 1);
        return;
    }
    paced--;
    if (put_chunk(one, USAGE, sizeof USAGE - 1))
        put(one, "0\r\n\r\n", 5);
}

static void begin(connection *one)
{
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    const char *chunks = header(one, "x-engine-chunks: "), *gap = header(one, "x-engine-gap: "),
               *cut = header(one, "x-engine-cut: ");
    one->left = (chunks ? atoi(chunks) : 3) + 1;
    one->gap = gap ? atof(gap) : 0;
    one->cut = cut ? atoi(cut) : -1;
    one->next = now();
    paced++;
    if (!put(one, head, sizeof head - 1))
        return;
    while (one->left > 0 && one->descriptor >= 0 && one->next <= now())
        step(one, one->next);
}

static void serve(connection *one)
{
    const char *status = header(one, "x-engine-status: ");
    int streamed = one->streams;
    one->request[one->kept] = 0;
    if (strncmp(one->request, "GET", 3) == 0)
        answer(one, 404, "text/plain", "none");
    else if (status)
        answer(one, atoi(status), "text/plain", "it broke");
    else if (streamed)
        begin(one);
    else
        answer(one, 200, "application/json", CHAT);
    one->kept = 0;
    one->missing = -1;
    one->streams = 0;
}

static void take(connection *one, char *data, size_t size)
{
    if (one->missing < 0) {
        size_t room = sizeof one->request - 1 - one->kept, some = size < room ? size : room;
        memcpy(one->request + one->kept, data, some);
        one->kept += some;
        one->request[one->kept] = 0;
        char *end = strstr(one->request, "\r\n\r\n");
        if (end == NULL) {
            if (one->kept == sizeof one->request - 1)
                leave(one);
            return;
        }
        const char *length = header(one, "content-length: ");
        one->missing = (length ? atol(length) : 0) - (long)(one->kept + size - some - (size_t)(end + 4 - one->request));
        one->streams = strstr(end, "\"stream\":true") != NULL || memmem(data, size, "\"stream\":true", 13) != NULL;
    } else {
        one->missing -= (long)size;
        one->streams |= memmem(data, size, "\"stream\":true", 13) != NULL;
    }
    if (one->missing <= 0)
        serve(one);
}

static int listen_on(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
        perror("listen");
        exit(1);
    }
    return listener;
}

static void welcome(int listener, int epoll)
{
    int descriptor, on = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (descriptor >= MOST_CONNECTIONS) {
            close(descriptor);
            continue;
        }
        connection *one = &connections[descriptor];
        struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
        memset(one, 0, offsetof(connection, request));
        one->descriptor = descriptor;
        one->missing = -1;
        highest = descriptor > highest ? descriptor : highest;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
    }
}

static void listen_to(connection *one)
{
    static char data[65536];
    ssize_t size = recv(one->descriptor, data, sizeof data, 0);
    if (size > 0)
        take(one, data, (size_t)size);
    else if (size == 0 || errno != EAGAIN)
        leave(one);
}

static void pace(double at)
{
    for (int i = 0; i <= highest; i++)
        while (connections[i].descriptor >= 0 && connections[i].left > 0 && connections[i].next <= at)
            step(&connections[i], at);
}

int main(int count, char **arguments)
{
    struct epoll_event ready[512], event = {.events = EPOLLIN};
    if (count != 3 || (connections = calloc(MOST_CONNECTIONS, sizeof *connections)) == NULL)
        return 2;
    for (int i = 0; i < MOST_CONNECTIONS; i++)
        connections[i].descriptor = -1;
    int listener = listen_on(arguments[1], atoi(arguments[2])), epoll = epoll_create1(0);
    event.data.fd = listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (double looked = 0;;) {
        int found = epoll_wait(epoll, ready, 512, paced ? 1 : -1);
        for (int i = 0; i < found; i++) {
            if (ready[i].data.fd == listener)
                welcome(listener, epoll);
            else if (connections[ready[i].data.fd].descriptor >= 0)
                listen_to(&connections[ready[i].data.fd]);
        }
        double at = now();
        if (paced && at - looked >= TICK_SECONDS) {
            pace(at);
            looked = at;
        }
    }
}

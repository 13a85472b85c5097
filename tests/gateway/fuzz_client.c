/*
 * fuzz_client.c: damaged requests through a gateway, one after the other, counted by their answers.
 *
 *   fuzz_client PORT MODEL REQUESTS SEED
 *
 * A request is a sound one whose path, headers and body are mutated, each at times; now and then its length lies, it is
 * cut, or it is noise. An answer is good when its status is below 500, 501 (a path that nobody knows), or 503 that names
 * routing as its reason (no pod matches the filter). Prints counts by class; a request with another answer is printed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ROOM 16384

static uint64_t state;
static int port, line = -1, is_fresh;
static const char *model;
static char sent[3 * ROOM];
static size_t sent_size;
static long good[6], closed, silent, bad;

static uint32_t dice(uint32_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % bound);
}

static const char *one_of(const char *const *list, uint32_t count)
{
    return list[dice(count)];
}
#define ONE_OF(list) one_of(list, sizeof list / sizeof list[0])

/* A few bytes changed, taken out or put in. */
static size_t mutate(char *text, size_t size, size_t room)
{
    static const char *const pieces[] = {"\"", "\\", "{", "}", "[", "]", ",", ":", "\\ud800", "\xff", "\xf0\x9f\x98", "\0",
                                         "null", "1e999", "-", " ", "\n", "true", "\\u0000"};
    for (uint32_t steps = dice(3) ? dice(4) : 0; steps > 0 && size > 0; steps--) {
        size_t at = dice((uint32_t)size), length = 1 + dice(8);
        const char *piece = ONE_OF(pieces);
        switch (dice(4)) {
        case 0:
            text[at] = (char)dice(256);
            break;
        case 1:
            length = length > size - at ? size - at : length;
            memmove(text + at, text + at + length, size - at - length);
            size -= length;
            break;
        case 2:
            length = strlen(piece) ? strlen(piece) : 1;
            if (size + length > room)
                break;
            memmove(text + at + length, text + at, size - at);
            memcpy(text + at, piece, length);
            size += length;
            break;
        default:
            if (dice(4) == 0)
                size = at;
        }
    }
    return size;
}

static size_t body(char *at)
{
    static const char *const forms[] = {
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\u00e9\\ud83d\\ude00\"}]}",
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}],\"stream\":true}",
        "{\"model\":\"%s\",\"prompt\":[\"a\",\"b\"],\"max_tokens\":5,\"user\":\"ada\"}",
        "{\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":[{}],\"model\":\"%s\"}",
        "{\"model\":\"%s\",\"input\":[\"a\",[1,2],{\"text\":\"b\"}],\"query\":\"q\",\"documents\":[\"d\"]}",
        "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n%s\r\n--x\r\ncontent-disposition: form-data; "
        "name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n--x--\r\n",
    };
    size_t size = (size_t)snprintf(at, ROOM, ONE_OF(forms), model);
    if (dice(50) == 0) {
        uint32_t depth = dice(2000);
        size = (size_t)snprintf(at, ROOM, "{\"model\":\"%s\",\"messages\":[{}],\"x\":", model);
        memset(at + size, dice(2) ? '[' : '{', depth);
        return size + depth;
    }
    return mutate(at, size, ROOM);
}

static size_t headers(char *at)
{
    static const char *const names[] = {"routing-strategy", "external-filter", "traceparent", "authorization", "user",
                                        "x-session-id", "x-aibrix-session-key", "config-profile", "content-type",
                                        "target-pod", "model", "x-error-routing", "content-encoding", "accept",
                                        "expect", "te", "x-request-id", ":path", "transfer-encoding", "cookie"};
    static const char *const values[] = {"random", "least-request:2,random:0", "a in (b, c), !d", "MTAuMC4wLjI6ODAwMA==",
                                         "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Bearer key", "auto",
                                         "application/json", "multipart/form-data; boundary=x", "169.254.169.254:80", "",
                                         "text/plain; charset=utf-16", "gzip", "identity", "chunked", "ada"};
    size_t size = 0;
    for (uint32_t count = dice(2) ? 0 : dice(6); count > 0; count--) {
        char value[256];
        size_t length = strlen(strcpy(value, ONE_OF(values)));
        length = mutate(value, length, sizeof value);
        for (size_t i = 0; i < length && dice(50); i++) /* mostly what may stand in a header */
            value[i] = isprint((unsigned char)value[i]) ? value[i] : '.';
        size += (size_t)sprintf(at + size, "%s: ", ONE_OF(names));
        memcpy(at + size, value, length);
        size += length;
        memcpy(at + size, "\r\n", 2);
        size += 2;
    }
    return size;
}

static void compose(void)
{
    static const char *const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses",
                                        "/v1/rerank", "/v1/classify", "/v1/messages", "/v1/audio/transcriptions",
                                        "/v1/images/generations", "/v1/unknown", "/v1/chat/completions?a=%00", "*"};
    static const char *const methods[] = {"POST", "POST", "POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS", "x"};
    char content[2 * ROOM], path[512];
    size_t length = body(content), told = dice(40) ? length : dice((uint32_t)length + 1);
    size_t path_size = strlen(strcpy(path, ONE_OF(paths)));
    if (dice(4) == 0)
        path_size = mutate(path, path_size, 400);
    sent_size = (size_t)sprintf(sent, "%s %.*s HTTP/1.1\r\nhost: gateway\r\n", ONE_OF(methods), (int)path_size, path);
    sent_size += headers(sent + sent_size);
    sent_size += (size_t)sprintf(sent + sent_size, "content-length: %zu\r\n\r\n", told);
    memcpy(sent + sent_size, content, length);
    sent_size += length;
    if (dice(200) == 0)
        sent_size = mutate(sent, sent_size, sizeof sent - 64);
}

static void connect_anew(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval soon = {.tv_usec = 300000};
    int on = 1;
    if (line >= 0)
        close(line);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    line = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(line, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        exit(1);
    }
    setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(line, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    is_fresh = 1;
}

/* Read until the answer is whole, the connection ends, or nothing comes for a while. Returns the status, or 0. */
static int answer(char *text, size_t room)
{
    size_t size = 0;
    while (size + 1 < room) {
        ssize_t some = recv(line, text + size, room - size - 1, 0);
        if (some <= 0) {
            silent += some < 0;
            connect_anew();
            break;
        }
        is_fresh = 0;
        size += (size_t)some;
        text[size] = 0;
        char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
        if (end && length && length < end && size >= (size_t)(end + 4 - text) + (size_t)atol(length + 15))
            break;
        if (end && size > 5 && memcmp(text + size - 5, "0\r\n\r\n", 5) == 0)
            break;
        if (end && (strncmp(text + 9, "204", 3) == 0 || strncmp(text + 9, "100", 3) == 0))
            break;
    }
    text[size] = 0;
    if (strcasestr(text, "connection: close"))
        connect_anew();
    return size > 12 ? atoi(text + 9) : 0;
}

/* Send it, on a new connection when the one at hand turns out to be closed. Returns the status, or 0. */
static int ask(char *text, size_t room)
{
    int was_fresh = is_fresh;
    is_fresh = 0;
    int status = send(line, sent, sent_size, MSG_NOSIGNAL) == (ssize_t)sent_size ? -1 : 0;
    if (status == 0 || dice(100) == 0) {
        connect_anew();
        return 0;
    }
    status = answer(text, room);
    if (status || was_fresh || send(line, sent, sent_size, MSG_NOSIGNAL) != (ssize_t)sent_size)
        return status;
    return answer(text, room);
}

int main(int count, char **arguments)
{
    static char text[1 << 18];
    if (count != 5)
        return 2;
    port = atoi(arguments[1]);
    model = arguments[2];
    state = strtoull(arguments[4], NULL, 10);
    connect_anew();
    for (long i = atol(arguments[3]); i > 0; i--) {
        compose();
        int status = ask(text, sizeof text);
        int is_ours = status == 501 || (status == 503 && strcasestr(text, "x-error-routing") != NULL);
        if (status >= 500 && !is_ours) {
            bad++;
            fprintf(stderr, "--- %d to\n%.*s\n--- was\n%s\n", status, (int)sent_size, sent, text);
        }
        if (status == 0)
            closed++;
        else
            good[status / 100 < 6 ? status / 100 : 0]++;
    }
    printf("silent\t%ld\n2xx\t%ld\n4xx\t%ld\n5xx\t%ld\nno answer\t%ld\nbad\t%ld\n", silent, good[2], good[4], good[5], closed, bad);
    return 0;
}

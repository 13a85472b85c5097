/*
 * client.h: what the load generators share: the clock, a connection to loopback, and samples with their percentiles.
 */
#ifndef BENCHMARKS_CLIENT_H
#define BENCHMARKS_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

static double *samples; /* seconds */
static size_t sample_count, sample_room;

/* Seconds of the monotonic clock. */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void keep(double sample)
{
    if (sample_count == sample_room) {
        sample_room = sample_room ? 2 * sample_room : 65536;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (samples == NULL)
            fail("memory");
    }
    samples[sample_count++] = sample;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Two lines, in milliseconds. */
static void print_percentiles(const char *what)
{
    qsort(samples, sample_count, sizeof *samples, by_size);
    if (sample_count == 0)
        fail("no samples");
    printf("%s, p50\t%.3f\n", what, samples[sample_count / 2] * 1e3);
    printf("%s, p99\t%.3f\n", what, samples[sample_count * 99 / 100] * 1e3);
}

/* A socket to a port of 127.0.0.1 whose input `epoll` tells of with `owner`. */
static int connect_to(int port, int epoll, void *owner)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    int on = 1, descriptor = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0)
        fail("epoll");
    return descriptor;
}

#endif

/* Container logs in the CRI format: `<RFC 3339 time> <stream> <F or P> <text>`. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int shim_log_open(struct shim_log *log, const char *path) {
    struct stat info;
    if (snprintf(log->path, sizeof log->path, "%s", path) >= (int)sizeof log->path) return -ENAMETOOLONG;
    log->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (log->fd < 0) return -errno;
    log->size = fstat(log->fd, &info) ? 0 : info.st_size;
    return 0;
}

void shim_log_close(struct shim_log *log) {
    if (log->fd >= 0) close(log->fd);
    log->fd = -1;
}

static void rotate(struct shim_log *log) {
    char older[sizeof log->path + 2], path[sizeof log->path];
    snprintf(older, sizeof older, "%s.1", log->path);
    memcpy(path, log->path, sizeof path);
    if (rename(log->path, older) < 0) return;
    shim_log_close(log);
    shim_log_open(log, path);
}

static size_t stamp(char *text, size_t size) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return used + (size_t)snprintf(text + used, size - used, ".%09ldZ", now.tv_nsec);
}

static void write_line(struct shim_log *log, const char *stream, char tag, const char *text, size_t size) {
    char head[96], end = '\n';
    size_t used = stamp(head, sizeof head);
    used += (size_t)snprintf(head + used, sizeof head - used, " %s %c ", stream, tag);
    struct iovec parts[] = {{head, used}, {(void *)(uintptr_t)text, size}, {&end, 1}};
    ssize_t written = log->fd < 0 ? 0 : writev(log->fd, parts, 3);
    if (written > 0) log->size += written;
    if (log->size > SHIM_LOG_BYTES) rotate(log);
}

static void split_lines(struct shim_stream *stream, struct shim_log *log) {
    char *at = stream->line, *end = stream->line + stream->used;
    for (char *newline; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1)
        write_line(log, stream->name, 'F', at, (size_t)(newline - at));
    stream->used = (size_t)(end - at);
    memmove(stream->line, at, stream->used);
    if (stream->used < sizeof stream->line) return;
    write_line(log, stream->name, 'P', stream->line, stream->used);
    stream->used = 0;
}

int shim_stream_copy(struct shim_stream *stream, struct shim_log *log) {
    while (stream->fd >= 0) {
        ssize_t got = read(stream->fd, stream->line + stream->used, sizeof stream->line - stream->used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return 1;
        if (got <= 0) break;
        stream->used += (size_t)got;
        split_lines(stream, log);
    }
    if (stream->fd >= 0) close(stream->fd);
    stream->fd = -1;
    if (stream->used) write_line(log, stream->name, 'F', stream->line, stream->used);
    stream->used = 0;
    return 0;
}

/* Requests: NUL separated strings, a key and its values. Every key has one value but `mount`,
 * which has four. A malformed request is refused whole. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cursor {
    char *at, *end;
};

static char *next_string(struct cursor *cursor) {
    if (cursor->at >= cursor->end) return NULL;
    char *text = cursor->at;
    cursor->at += strlen(text) + 1;
    return text;
}

static int append(char **list, size_t *count, char *value) {
    if (*count + 1 >= SHIM_LIST) return -E2BIG;
    list[(*count)++] = value;
    return 0;
}

static int read_mount(struct shim_request *request, struct cursor *cursor, char *type) {
    char *source = next_string(cursor), *target = next_string(cursor), *options = next_string(cursor);
    if (!options || request->mountc >= SHIM_LIST) return -EINVAL;
    request->mounts[request->mountc++] =
        (struct shim_mount){.type = type, .source = source, .target = target, .options = options};
    return 0;
}

static int read_group(struct shim_request *request, const char *value) {
    if (request->groupc >= sizeof request->groups / sizeof *request->groups) return -E2BIG;
    request->groups[request->groupc++] = (gid_t)strtoul(value, NULL, 10);
    return 0;
}

static int read_field(struct shim_request *request, const char *key, char *value) {
    if (!strcmp(key, "argv")) return append(request->argv, &request->argc, value);
    if (!strcmp(key, "env")) return append(request->env, &request->envc, value);
    if (!strcmp(key, "group")) return read_group(request, value);
    if (!strcmp(key, "container")) request->container = value;
    else if (!strcmp(key, "root")) request->root = value;
    else if (!strcmp(key, "cwd")) request->cwd = value;
    else if (!strcmp(key, "log")) request->log = value;
    else if (!strcmp(key, "attempt")) request->attempt = (unsigned)strtoul(value, NULL, 10);
    else if (!strcmp(key, "tty")) request->tty = *value == '1';
    else if (!strcmp(key, "no_new_privs")) request->no_new_privs = *value == '1';
    else if (!strcmp(key, "uid")) request->uid = (uid_t)strtoul(value, NULL, 10);
    else if (!strcmp(key, "gid")) request->gid = (gid_t)strtoul(value, NULL, 10);
    else return -EINVAL;
    return 0;
}

static int read_all(int fd, char *text, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, text + done, size - done, (off_t)done);
        if (got <= 0) return got < 0 ? -errno : -EIO;
        done += (size_t)got;
    }
    return 0;
}

static int load(int fd, struct shim_request *request) {
    struct stat info;
    if (fstat(fd, &info) < 0) return -errno;
    if (info.st_size <= 0 || info.st_size > 16 << 20) return -EMSGSIZE;
    request->size = (size_t)info.st_size;
    request->text = calloc(1, request->size + 1);
    request->argv = calloc(SHIM_LIST, sizeof *request->argv);
    request->env = calloc(SHIM_LIST, sizeof *request->env);
    request->mounts = calloc(SHIM_LIST, sizeof *request->mounts);
    if (!request->text || !request->argv || !request->env || !request->mounts) return -ENOMEM;
    return read_all(fd, request->text, request->size);
}

static int parse(struct shim_request *request) {
    struct cursor cursor = {.at = request->text, .end = request->text + request->size};
    for (char *key; (key = next_string(&cursor));) {
        char *value = next_string(&cursor);
        if (!value) return -EINVAL;
        int status = strcmp(key, "mount") ? read_field(request, key, value) : read_mount(request, &cursor, value);
        if (status) return status;
    }
    bool named = request->container && *request->container && strlen(request->container) < SHIM_NAME;
    return named && request->argc ? 0 : -EINVAL;
}

int shim_request_read(int fd, struct shim_request *request) {
    memset(request, 0, sizeof *request);
    int status = load(fd, request);
    if (!status) status = parse(request);
    if (status) shim_request_free(request);
    return status;
}

void shim_request_free(struct shim_request *request) {
    free(request->text);
    free(request->argv);
    free(request->env);
    free(request->mounts);
    memset(request, 0, sizeof *request);
}

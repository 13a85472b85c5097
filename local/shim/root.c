/* A container's root: every target is resolved inside the new root (openat2 with RESOLVE_IN_ROOT), so
 * that absolute links such as /var/run cannot lead out of it, and mounted through its descriptor. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_inside(int root, const char *path, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = flags & O_CREAT ? 0644 : 0, .resolve = RESOLVE_IN_ROOT};
    while (*path == '/') path++;
    long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

static int make_directory(int root, const char *path) {
    char part[4096];
    int parent = fcntl(root, F_DUPFD_CLOEXEC, 0);
    for (const char *end = path; *end && parent >= 0;) {
        while (*end == '/') end++;
        const char *name = end;
        end = strchrnul(end, '/');
        if (end == name) break;
        if ((size_t)(end - path) >= sizeof part) return -ENAMETOOLONG;
        memcpy(part, path, (size_t)(end - path));
        part[end - path] = 0;
        int next = open_inside(root, part, O_PATH | O_DIRECTORY);
        if (next == -ENOENT && mkdirat(parent, part + (name - path), 0755) < 0 && errno != EEXIST) next = -errno;
        else if (next == -ENOENT) next = open_inside(root, part, O_PATH | O_DIRECTORY);
        close(parent);
        parent = next;
    }
    return parent;
}

/* Opens `path` inside the root, made when missing: a directory, or an empty file. */
static int make_target(int root, const char *path, bool file) {
    int fd = open_inside(root, path, O_PATH);
    if (fd != -ENOENT) return fd;
    if (!file) return make_directory(root, path);
    char parent[4096];
    const char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) >= sizeof parent) return -EINVAL;
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = 0;
    fd = make_directory(root, parent);
    if (fd < 0) return fd;
    close(fd);
    fd = open_inside(root, path, O_CREAT | O_WRONLY);
    if (fd < 0) return fd;
    close(fd);
    return open_inside(root, path, O_PATH);
}

struct options {
    unsigned long flags;
    bool file, recursive;
    char data[3900];
};

static void parse_option(struct options *parsed, const char *word) {
    if (!strcmp(word, "ro")) parsed->flags |= MS_RDONLY;
    else if (!strcmp(word, "nosuid")) parsed->flags |= MS_NOSUID;
    else if (!strcmp(word, "noexec")) parsed->flags |= MS_NOEXEC;
    else if (!strcmp(word, "nodev")) parsed->flags |= MS_NODEV;
    else if (!strcmp(word, "file")) parsed->file = true;
    else if (!strcmp(word, "rec")) parsed->recursive = true;
    else {
        if (*parsed->data) strncat(parsed->data, ",", sizeof parsed->data - strlen(parsed->data) - 1);
        strncat(parsed->data, word, sizeof parsed->data - strlen(parsed->data) - 1);
    }
}

static int parse_options(struct options *parsed, const char *text) {
    char words[sizeof parsed->data], *rest = NULL;
    memset(parsed, 0, sizeof *parsed);
    if (strlen(text) >= sizeof words) return -ENAMETOOLONG;
    strcpy(words, text);
    for (char *word = strtok_r(words, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) parse_option(parsed, word);
    return 0;
}

static int mount_bind(const char *source, const char *place, const struct options *parsed) {
    if (mount(source, place, NULL, MS_BIND | (parsed->recursive ? MS_REC : 0), NULL) < 0) return -errno;
    return 0;
}

/* A bind mount takes its flags in a second step, through the path that then leads to the new mount. */
static int restrict_bind(int root, const char *target, const struct options *parsed) {
    char place[64];
    if (!parsed->flags) return 0;
    int fd = open_inside(root, target, O_PATH);
    if (fd < 0) return fd;
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    int status = mount(NULL, place, NULL, MS_REMOUNT | MS_BIND | parsed->flags, NULL) < 0 ? -errno : 0;
    close(fd);
    return status;
}

static int mount_at(int root, const struct shim_mount *step, const struct options *parsed) {
    char place[64];
    bool bind = !strcmp(step->type, "bind");
    int fd = make_target(root, step->target, parsed->file);
    if (fd < 0) return fd;
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    int status = bind ? mount_bind(step->source, place, parsed)
                      : (mount(step->source, place, step->type, parsed->flags, parsed->data) < 0 ? -errno : 0);
    close(fd);
    return status || !bind ? status : restrict_bind(root, step->target, parsed);
}

static int make_link(int root, const struct shim_mount *step) {
    const char *name = step->target;
    while (*name == '/') name++;
    return symlinkat(step->source, root, name) < 0 && errno != EEXIST ? -errno : 0;
}

/* Lets every user pass through the directories above `path`; in an overlay that changes the copy only. */
static int make_reachable(int root, const char *path) {
    char part[4096];
    if (strlen(path) >= sizeof part) return -ENAMETOOLONG;
    for (const char *end = strchrnul(path + 1, '/');; end = strchrnul(end + 1, '/')) {
        struct stat info;
        memcpy(part, path, (size_t)(end - path));
        part[end - path] = 0;
        int fd = open_inside(root, part, O_RDONLY | O_DIRECTORY);
        if (fd < 0) return 0;
        if (!fstat(fd, &info) && (info.st_mode & 0111) != 0111) (void)!fchmod(fd, (info.st_mode & 07777) | 0111);
        close(fd);
        if (!*end) return 0;
    }
}

static int run_step(int root, const struct shim_mount *step) {
    struct options parsed;
    int status = parse_options(&parsed, step->options);
    if (status) return status;
    if (!strcmp(step->type, "symlink")) return make_link(root, step);
    if (!strcmp(step->type, "reach")) return make_reachable(root, step->target);
    if (!strcmp(step->type, "mkdir")) {
        int fd = make_directory(root, step->target);
        if (fd < 0) return fd;
        close(fd);
        return 0;
    }
    return mount_at(root, step, &parsed);
}

/* The first steps, with target "", prepare and mount the root itself; paths are the host's. */
static int mount_root(const struct shim_request *request, const struct shim_mount *step) {
    struct options parsed;
    int status = parse_options(&parsed, step->options);
    if (status) return status;
    if (!strcmp(step->type, "mkdir")) return mkdir(step->source, 0755) < 0 && errno != EEXIST ? -errno : 0;
    const char *place = strcmp(step->type, "tmpfs") ? request->root : step->source;
    return mount(step->type, place, step->type, parsed.flags, parsed.data) < 0 ? -errno : 0;
}

static int switch_root(const char *root) {
    if (chdir(root) < 0) return -errno;
    if (syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
    if (umount2(".", MNT_DETACH) < 0) return -errno;
    return chdir("/") < 0 ? -errno : 0;
}

int shim_root_mount(const char *path, const struct shim_mount *steps, size_t count, const char **step) {
    int status = 0, root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *step = path;
    if (root < 0) return -errno;
    for (size_t at = 0; at < count && !status; at++) {
        *step = steps[at].target;
        status = run_step(root, &steps[at]);
    }
    close(root);
    return status;
}

int shim_root_enter(const struct shim_request *request, const char **step) {
    size_t at = 0;
    int status = 0;
    for (; at < request->mountc && !*request->mounts[at].target && !status; at++) {
        *step = request->mounts[at].type;
        status = mount_root(request, &request->mounts[at]);
    }
    if (!status) status = shim_root_mount(request->root, request->mounts + at, request->mountc - at, step);
    if (status) return status;
    *step = "pivot_root";
    return switch_root(request->root);
}

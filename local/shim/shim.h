/*
 * brixflow pod shim: the parent of all processes of one pod.
 *
 *   node agent ── shim.sock (SEQPACKET, one request a packet, files as SCM_RIGHTS)
 *        │                                              pod directory
 *        ▼                                              ├─ shim.pid   pid, start time, boot id
 *   ┌─ shim: PID 1 of the pod's PID namespace ─┐        ├─ shim.lock  held while the shim lives
 *   │ own net, mount, UTS and IPC namespaces   │        ├─ shim.log   what went wrong
 *   │   ├─ container "a"  own mount namespace ─┼─pipes─►├─ logs/a/0.log (CRI format, rotated)
 *   │   ├─ container "b"                       │        └─ events     one line a start or exit
 *   │   └─ exec'd commands (setns)             │
 *   └──────────────────────────────────────────┘
 *
 * The agent may die and come back at any moment; nothing here depends on it. When the shim ends,
 * the kernel ends every process of the pod and drops its mounts and its interface.
 * Functions return 0 (or a value >= 0) for success and a negative errno otherwise.
 */
#ifndef BRIXFLOW_SHIM_H
#define BRIXFLOW_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SHIM_CONTAINERS = 64,          /* containers of one pod, init containers included */
    SHIM_CLIENTS = 128,            /* open connections: one per exec, one per watcher */
    SHIM_NAME = 64,                /* a container name with its terminator */
    SHIM_LINE = 16 * 1024,         /* longest log line kept whole, as CRI runtimes do */
    SHIM_LIST = 4096,              /* entries of argv, env or mounts in one request */
    SHIM_LOG_BYTES = 10 << 20,     /* a log file is rotated at this size; one older file is kept */
    SHIM_PACKET = 1024,            /* longest packet; what is longer travels in a memfd */
};

/* ---- request.c: what the agent asks for ---------------------------------------------------- */

/* One mount step inside the container's new root. `target` is resolved within that root. */
struct shim_mount {
    const char *type;   /* overlay, tmpfs, proc, sysfs, devpts, mqueue, bind, mkdir, symlink, reach */
    const char *source;
    const char *target;
    const char *options; /* comma list: ro, rec, file, nosuid, noexec, nodev; the rest is data */
};

/* A parsed request. All strings point into `text`, which the request owns. */
struct shim_request {
    char *text;
    size_t size;
    const char *container;
    const char *root;       /* directory on which the new root is mounted */
    const char *cwd;
    const char *log;        /* log file, relative to the pod directory */
    unsigned attempt;
    bool tty;
    bool no_new_privs;
    uid_t uid;
    gid_t gid;
    size_t argc, envc, mountc, groupc;
    char **argv;            /* NULL terminated */
    char **env;             /* NULL terminated */
    struct shim_mount *mounts;
    gid_t groups[64];
};

/* Reads a request from `fd` (NUL separated key and value strings). Free with shim_request_free. */
int shim_request_read(int fd, struct shim_request *request);
void shim_request_free(struct shim_request *request);

/* ---- network.c: rtnetlink, no child processes ----------------------------------------------- */

/* Makes bridge `name` with `address`/`prefix` and sets it up; an existing one is kept. */
int shim_bridge_add(const char *name, const char *address, unsigned prefix);
/* Removes link `name` (a bridge or a veth end). A missing link is success. */
int shim_link_delete(const char *name);

struct shim_network {
    const char *bridge, *veth, *address, *gateway;
    unsigned prefix;
};
/* From the host's network namespace to that of the calling thread: `host_socket` is a netlink
 * socket opened before unshare. Creates the veth pair, its inner end is eth0. */
int shim_network_attach(int host_socket, unsigned bridge_index, const struct shim_network *network);
/* Opens a netlink socket in the current network namespace; returns it. */
int shim_netlink_open(void);

/* ---- root.c: a container's file system ------------------------------------------------------ */

/* In a fresh mount namespace: carries out the mounts and makes `request->root` the root.
 * On failure `*step` names what failed (static or request memory). */
int shim_root_enter(const struct shim_request *request, const char **step);
/* Carries out `count` mounts below `path`, in the caller's namespace. */
int shim_root_mount(const char *path, const struct shim_mount *steps, size_t count, const char **step);

/* ---- log.c: CRI log files ------------------------------------------------------------------- */

struct shim_log {
    int fd;
    int64_t size;
    char path[512];
};

struct shim_stream {
    int fd;                 /* read end of the container's pipe, -1 once at its end */
    const char *name;       /* stdout or stderr */
    size_t used;
    char line[SHIM_LINE];
};

int shim_log_open(struct shim_log *log, const char *path);
void shim_log_close(struct shim_log *log);
/* Copies what the pipe holds into the log. Returns 1 while open, 0 at its end. Never blocks. */
int shim_stream_copy(struct shim_stream *stream, struct shim_log *log);

/* ---- process.c: starting and ending processes ----------------------------------------------- */

struct shim_container {
    bool used;
    pid_t pid;              /* 0 once it has ended */
    int mount_namespace;    /* descriptor, kept until the next start */
    ino_t namespace_inode;
    char name[SHIM_NAME];
    struct shim_request request;
    struct shim_log log;
    struct shim_stream out, err;
};

/* Starts the container's process; the request moves into `container`. On failure `message`
 * (of `size` bytes) says which step failed and nothing is left running. */
int shim_container_start(struct shim_container *container, struct shim_request *request, char *message, size_t size);
/* Signals the container's first process; SIGKILL goes to every process of its mount namespace. */
int shim_container_kill(const struct shim_container *container, int signal_number);
/* Runs request->argv inside `container`. `files` are stdin, stdout, stderr, or NULL with a terminal,
 * whose master end is returned in `*terminal`. Returns the pid. */
pid_t shim_container_exec(const struct shim_container *container, const struct shim_request *request, const int *files,
                          int *terminal, char *message, size_t size);

/* ---- serve.c -------------------------------------------------------------------------------- */

/* PID 1's loop; `listener` is the bound socket. Returns only when asked to end. */
int shim_serve(int listener);

#endif

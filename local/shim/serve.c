/* PID 1's loop: one epoll over the socket, its clients, the containers' pipes and SIGCHLD. It keeps no
 * timer, so a pod at rest costs nothing. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum source { FROM_LISTENER, FROM_SIGNALS, FROM_CLIENT, FROM_STDOUT, FROM_STDERR };

struct client {
    int fd;                 /* -1 when free */
    bool watches;
    pid_t exec_pid;
};

struct shim {
    int poll, listener, signals, events;
    unsigned long sequence;
    bool ending;
    struct client clients[SHIM_CLIENTS];
    struct shim_container *containers[SHIM_CONTAINERS];
};

static int watch_fd(const struct shim *shim, int fd, enum source source, size_t index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)index << 8 | (uint64_t)source};
    return epoll_ctl(shim->poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int say_with_file(int fd, const char *text, int file) {
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (file >= 0) {
        packet.msg_control = control;
        packet.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
        *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(head), &file, sizeof file);
    }
    return sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static int say(int fd, const char *text) { return say_with_file(fd, text, -1); }

/* ---- events: written to the file first, then told to watchers -------------------------------- */

static void record(struct shim *shim, const char *kind, const struct shim_container *container, int status) {
    char line[256];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0, killer = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    int size = snprintf(line, sizeof line, "%lu %s %s %u %d %d %d %ld%09ld\n", ++shim->sequence, kind, container->name,
                        container->request.attempt, container->pid, code, killer, now.tv_sec, now.tv_nsec);
    (void)!write(shim->events, line, (size_t)size);
    for (size_t at = 0; at < SHIM_CLIENTS; at++) {
        struct client *client = &shim->clients[at];
        /* A watcher that lags so far loses its connection; it reads the file when it comes back. */
        if (client->fd >= 0 && client->watches && say(client->fd, line)) shutdown(client->fd, SHUT_RDWR);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static struct shim_container *find(struct shim *shim, const char *name, size_t *index) {
    for (size_t at = 0; at < SHIM_CONTAINERS; at++) {
        struct shim_container *container = shim->containers[at];
        if (!container || strcmp(container->name, name)) continue;
        *index = at;
        return container;
    }
    return NULL;
}

static struct shim_container *find_or_add(struct shim *shim, const char *name, size_t *index) {
    struct shim_container *container = find(shim, name, index);
    for (size_t at = 0; !container && at < SHIM_CONTAINERS; at++) {
        if (shim->containers[at]) continue;
        container = shim->containers[at] = calloc(1, sizeof *container);
        *index = at;
    }
    return container;
}

static void say_error(int fd, const char *message) {
    char text[400];
    snprintf(text, sizeof text, "error %s", message);
    say(fd, text);
}

static void start(struct shim *shim, int client, int file) {
    struct shim_request request;
    char message[300] = "unreadable request", answer[64];
    size_t index = 0;
    if (shim_request_read(file, &request)) return say_error(client, message);
    struct shim_container *container = find_or_add(shim, request.container, &index);
    if (!container || container->pid) {
        shim_request_free(&request);
        return say_error(client, container ? "container runs" : "too many containers");
    }
    if (shim_container_start(container, &request, message, sizeof message)) return say_error(client, message);
    record(shim, "start", container, 0);
    watch_fd(shim, container->out.fd, FROM_STDOUT, index);
    watch_fd(shim, container->err.fd, FROM_STDERR, index);
    snprintf(answer, sizeof answer, "ok %d", container->pid);
    say(client, answer);
}

/* An exec runs with the container's environment and user; only what it names itself differs. */
static void inherit(struct shim_request *request, const struct shim_request *parent) {
    memcpy(request->env, parent->env, parent->envc * sizeof *parent->env);
    memcpy(request->groups, parent->groups, sizeof parent->groups);
    request->envc = parent->envc;
    request->groupc = parent->groupc;
    request->uid = parent->uid;
    request->gid = parent->gid;
    request->no_new_privs = parent->no_new_privs;
    request->cwd = parent->cwd;
}

static void exec_command(struct shim *shim, struct client *client, const int *files, size_t count) {
    struct shim_request request;
    char message[300] = "unreadable request", answer[64];
    size_t index = 0;
    int terminal = -1;
    if (shim_request_read(files[0], &request)) return say_error(client->fd, message);
    struct shim_container *container = find(shim, request.container, &index);
    bool complete = container && container->pid && (request.tty || count == 4);
    pid_t pid = -1;
    if (complete) {
        inherit(&request, &container->request);
        pid = shim_container_exec(container, &request, request.tty ? NULL : files + 1, &terminal, message, sizeof message);
    }
    shim_request_free(&request);
    if (pid < 0) return say_error(client->fd, complete ? message : "container is not running");
    client->exec_pid = pid;
    snprintf(answer, sizeof answer, "ok %d", pid);
    say_with_file(client->fd, answer, terminal);
    if (terminal >= 0) close(terminal);
}

static void signal_container(struct shim *shim, int client, const char *text) {
    char name[SHIM_NAME];
    int number = 0;
    size_t index = 0;
    if (sscanf(text, "kill %63s %d", name, &number) != 2) return say_error(client, "unreadable request");
    struct shim_container *container = find(shim, name, &index);
    int status = container ? shim_container_kill(container, number) : -ESRCH;
    if (status) say_error(client, strerror(-status));
    else say(client, "ok");
}

/* Mounts in the shim's own namespace: what every container started later sees, such as a volume in memory. */
static void mount_shared(int client, int file) {
    struct shim_request request;
    char message[300];
    const char *step = "unreadable request";
    int status = shim_request_read(file, &request);
    if (!status) status = shim_root_mount("/", request.mounts, request.mountc, &step);
    snprintf(message, sizeof message, "%s: %s", step, strerror(-status));
    if (status) say_error(client, message);
    else say(client, "ok");
    shim_request_free(&request);
}

static void drop_client(struct client *client) {
    if (client->exec_pid > 0) kill(-client->exec_pid, SIGKILL);
    close(client->fd);
    *client = (struct client){.fd = -1};
}

static void handle(struct shim *shim, struct client *client, const char *text, const int *files, size_t count) {
    if (!strcmp(text, "start") && count == 1) start(shim, client->fd, files[0]);
    else if (!strcmp(text, "mount") && count == 1) mount_shared(client->fd, files[0]);
    else if (!strcmp(text, "exec") && count >= 1) exec_command(shim, client, files, count);
    else if (!strncmp(text, "kill ", 5)) signal_container(shim, client->fd, text);
    else if (!strcmp(text, "watch")) client->watches = true, say(client->fd, "ok");
    else if (!strcmp(text, "end")) shim->ending = true, say(client->fd, "ok");
    else say_error(client->fd, "unknown request");
}

static void from_client(struct shim *shim, struct client *client) {
    char text[SHIM_PACKET], control[CMSG_SPACE(4 * sizeof(int))];
    struct iovec part = {text, sizeof text - 1};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int files[4];
    size_t count = 0;
    ssize_t got = recvmsg(client->fd, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return drop_client(client);
    text[got] = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&packet); head; head = CMSG_NXTHDR(&packet, head)) {
        if (head->cmsg_type != SCM_RIGHTS) continue;
        count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(files, CMSG_DATA(head), count * sizeof(int));
    }
    handle(shim, client, text, files, count);
    for (size_t at = 0; at < count; at++) close(files[at]);
}

static void from_listener(struct shim *shim) {
    int fd = accept4(shim->listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t at = 0; fd >= 0 && at < SHIM_CLIENTS; at++) {
        if (shim->clients[at].fd >= 0) continue;
        shim->clients[at] = (struct client){.fd = fd};
        watch_fd(shim, fd, FROM_CLIENT, at);
        return;
    }
    if (fd >= 0) close(fd);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void container_ended(struct shim *shim, struct shim_container *container, int status) {
    shim_container_kill(container, SIGKILL);
    shim_stream_copy(&container->out, &container->log);
    shim_stream_copy(&container->err, &container->log);
    if (container->out.fd >= 0) close(container->out.fd);
    if (container->err.fd >= 0) close(container->err.fd);
    container->out.fd = container->err.fd = -1;
    shim_log_close(&container->log);
    record(shim, "exit", container, status);
    container->pid = 0;
}

static void exec_ended(struct client *client, int status) {
    char text[64];
    snprintf(text, sizeof text, "exit %d %d", WIFEXITED(status) ? WEXITSTATUS(status) : 0,
             WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    client->exec_pid = 0;
    say(client->fd, text);
}

static void ended(struct shim *shim, pid_t pid, int status) {
    for (size_t at = 0; at < SHIM_CONTAINERS; at++)
        if (shim->containers[at] && shim->containers[at]->pid == pid) return container_ended(shim, shim->containers[at], status);
    for (size_t at = 0; at < SHIM_CLIENTS; at++)
        if (shim->clients[at].fd >= 0 && shim->clients[at].exec_pid == pid) return exec_ended(&shim->clients[at], status);
}

static void from_signals(struct shim *shim) {
    struct signalfd_siginfo info;
    int status;
    (void)!read(shim->signals, &info, sizeof info);
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) ended(shim, pid, status);
}

static void dispatch(struct shim *shim, uint64_t data) {
    size_t index = (size_t)(data >> 8);
    switch ((enum source)(data & 0xff)) {
    case FROM_LISTENER: from_listener(shim); break;
    case FROM_SIGNALS: from_signals(shim); break;
    case FROM_CLIENT: if (shim->clients[index].fd >= 0) from_client(shim, &shim->clients[index]); break;
    case FROM_STDOUT: shim_stream_copy(&shim->containers[index]->out, &shim->containers[index]->log); break;
    case FROM_STDERR: shim_stream_copy(&shim->containers[index]->err, &shim->containers[index]->log); break;
    }
}

static int prepare(struct shim *shim, int listener) {
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_SETMASK, &children, NULL);
    for (size_t at = 0; at < SHIM_CLIENTS; at++) shim->clients[at].fd = -1;
    shim->listener = listener;
    shim->poll = epoll_create1(EPOLL_CLOEXEC);
    shim->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    shim->events = open("events", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (shim->poll < 0 || shim->signals < 0 || shim->events < 0) return -errno;
    int status = watch_fd(shim, listener, FROM_LISTENER, 0);
    return status ? status : watch_fd(shim, shim->signals, FROM_SIGNALS, 0);
}

int shim_serve(int listener) {
    struct shim *shim = calloc(1, sizeof *shim);
    if (!shim) return -ENOMEM;
    int status = prepare(shim, listener);
    while (!status && !shim->ending) {
        struct epoll_event events[16];
        int count = epoll_wait(shim->poll, events, 16, -1);
        for (int at = 0; at < count; at++) dispatch(shim, events[at].data.u64);
    }
    return status;
}

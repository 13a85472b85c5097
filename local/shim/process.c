/* Starting, signalling and exec'ing: the only file that forks inside the pod. */
#define _GNU_SOURCE
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What a child tells its parent before it becomes the wanted program: nothing, or this. */
struct failure {
    int status;
    char step[200];
};

static void fail(int report, int status, const char *step) {
    struct failure failure = {.status = status};
    snprintf(failure.step, sizeof failure.step, "%s", step);
    (void)!write(report, &failure, sizeof failure);
    _exit(128);
}

static void reset_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int take_identity(const struct shim_request *request) {
    if (setgroups(request->groupc, request->groups) < 0) return -errno;
    if (setgid(request->gid) < 0) return -errno;
    if (setuid(request->uid) < 0) return -errno;
    if (request->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
    return 0;
}

/* Never returns: runs the program or reports why it cannot. */
static void become(const struct shim_request *request, int report) {
    const char *cwd = request->cwd && *request->cwd ? request->cwd : "/";
    if (chdir(cwd) < 0) fail(report, -errno, cwd);
    int status = take_identity(request);
    if (status) fail(report, status, "set user and groups");
    reset_signals();
    environ = request->env;
    execvpe(request->argv[0], request->argv, request->env);
    fail(report, -errno, request->argv[0]);
}

static void take_files(const int *files) {
    int copies[3];
    for (int at = 0; at < 3; at++) copies[at] = fcntl(files[at], F_DUPFD, 3);
    for (int at = 0; at < 3; at++) {
        dup2(copies[at], at);
        close(copies[at]);
    }
}

static void container_child(const struct shim_request *request, int out, int err, int report) {
    const char *step = "unshare";
    int none = open("/dev/null", O_RDONLY | O_CLOEXEC), files[] = {none, out, err};
    char go;
    setsid();
    if (unshare(CLONE_NEWNS) < 0) fail(report, -errno, step);
    int status = shim_root_enter(request, &step);
    if (status) fail(report, status, step);
    struct failure ready = {0};
    if (write(report, &ready, sizeof ready) < 0 || read(report, &go, 1) != 1) _exit(128);
    take_files(files);
    become(request, report);
}

static int describe(const struct failure *failure, char *message, size_t size) {
    snprintf(message, size, "%s: %s", failure->step, strerror(-failure->status));
    return failure->status ? failure->status : -EIO;
}

/* Waits until the child has its root, keeps its mount namespace, lets it run, and waits for exec. */
static int follow_start(struct shim_container *container, int report, char *message, size_t size) {
    struct failure failure = {.status = -EIO, .step = "child ended early"};
    struct stat info;
    char path[64];
    if (read(report, &failure, sizeof failure) != sizeof failure || failure.status) return describe(&failure, message, size);
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", container->pid);
    container->mount_namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (container->mount_namespace < 0 || fstat(container->mount_namespace, &info) < 0) return -errno;
    container->namespace_inode = info.st_ino;
    if (write(report, "g", 1) != 1) return -errno;
    ssize_t got = read(report, &failure, sizeof failure);
    return got == sizeof failure ? describe(&failure, message, size) : 0;
}

static int open_pipe(struct shim_stream *stream, const char *name, int *inner) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    stream->fd = ends[0];
    stream->name = name;
    stream->used = 0;
    *inner = ends[1];
    return 0;
}

static int spawn(struct shim_container *container, int out, int err, char *message, size_t size) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    container->pid = fork();
    if (container->pid == 0) container_child(&container->request, out, err, pair[1]);
    int status = container->pid < 0 ? -errno : 0;
    close(pair[1]);
    if (!status) status = follow_start(container, pair[0], message, size);
    close(pair[0]);
    return status;
}

static void abandon(struct shim_container *container) {
    if (container->pid > 0) {
        kill(container->pid, SIGKILL);
        waitpid(container->pid, NULL, 0);
    }
    container->pid = 0;
    shim_stream_copy(&container->out, &container->log);
    shim_stream_copy(&container->err, &container->log);
    shim_log_close(&container->log);
}

int shim_container_start(struct shim_container *container, struct shim_request *request, char *message, size_t size) {
    int out = -1, err = -1;
    snprintf(message, size, "start");
    if (container->used && container->mount_namespace >= 0) close(container->mount_namespace);
    shim_request_free(&container->request);
    container->request = *request;
    memset(request, 0, sizeof *request);
    container->used = true;
    container->mount_namespace = -1;
    container->out.fd = container->err.fd = container->log.fd = -1;
    snprintf(container->name, sizeof container->name, "%s", container->request.container);
    int status = shim_log_open(&container->log, container->request.log ? container->request.log : "/dev/null");
    if (!status) status = open_pipe(&container->out, "stdout", &out);
    if (!status) status = open_pipe(&container->err, "stderr", &err);
    if (!status) status = spawn(container, out, err, message, size);
    if (out >= 0) close(out);
    if (err >= 0) close(err);
    if (status) abandon(container);
    return status;
}

static void kill_namespace(ino_t inode) {
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        struct stat info;
        char path[300];
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid <= 1) continue;
        snprintf(path, sizeof path, "/proc/%ld/ns/mnt", pid);
        if (!stat(path, &info) && info.st_ino == inode) kill((pid_t)pid, SIGKILL);
    }
    if (processes) closedir(processes);
}

int shim_container_kill(const struct shim_container *container, int signal_number) {
    if (signal_number == SIGKILL && container->namespace_inode) kill_namespace(container->namespace_inode);
    if (!container->pid) return -ESRCH;
    return kill(container->pid, signal_number) < 0 ? -errno : 0;
}

static int take_terminal(int report, int *files) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), number = 0, unlock = 0;
    char path[64];
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &number) < 0)
        fail(report, -errno, "open terminal");
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    int slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) < 0) fail(report, -errno, path);
    files[0] = files[1] = files[2] = slave;
    return master;
}

static void send_ready(int report, int terminal) {
    struct failure ready = {0};
    struct iovec part = {&ready, sizeof ready};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (terminal >= 0) {
        packet.msg_control = control;
        packet.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
        *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(head), &terminal, sizeof terminal);
    }
    if (sendmsg(report, &packet, 0) < 0) _exit(128);
}

static void exec_child(const struct shim_container *container, const struct shim_request *request, const int *files, int report) {
    int own[3] = {-1, -1, -1}, terminal = -1;
    setsid();
    if (setns(container->mount_namespace, CLONE_NEWNS) < 0) fail(report, -errno, "enter container");
    if (files) memcpy(own, files, sizeof own);
    else terminal = take_terminal(report, own);
    send_ready(report, terminal);
    take_files(own);
    become(request, report);
}

static int follow_exec(int report, int *terminal, char *message, size_t size) {
    struct failure failure = {.status = -EIO, .step = "child ended early"};
    struct iovec part = {&failure, sizeof failure};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    *terminal = -1;
    if (recvmsg(report, &packet, MSG_CMSG_CLOEXEC) != sizeof failure || failure.status) return describe(&failure, message, size);
    struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
    if (head && head->cmsg_type == SCM_RIGHTS) memcpy(terminal, CMSG_DATA(head), sizeof *terminal);
    if (recv(report, &failure, sizeof failure, 0) != sizeof failure) return 0;
    if (*terminal >= 0) close(*terminal);
    *terminal = -1;
    return describe(&failure, message, size);
}

pid_t shim_container_exec(const struct shim_container *container, const struct shim_request *request, const int *files,
                          int *terminal, char *message, size_t size) {
    int pair[2];
    snprintf(message, size, "exec");
    if (!container->pid || container->mount_namespace < 0) return -ESRCH;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    pid_t pid = fork();
    if (pid == 0) exec_child(container, request, files, pair[1]);
    int status = pid < 0 ? -errno : 0;
    close(pair[1]);
    if (!status) status = follow_exec(pair[0], terminal, message, size);
    close(pair[0]);
    if (status && pid > 0) waitpid(pid, NULL, 0);
    return status ? status : pid;
}

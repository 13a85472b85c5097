/* Entry: `shim bridge-add NAME ADDRESS PREFIX`, `shim link-delete NAME`, and
 * `shim run DIR HOSTNAME [BRIDGE VETH ADDRESS PREFIX GATEWAY]`, which makes the pod's namespaces, leaves the
 * pod's PID 1 behind and ends. Without a bridge the pod shares the host's network. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int complain(const char *step, int status) {
    fprintf(stderr, "%s: %s\n", step, strerror(-status));
    return 1;
}

/* The lock is inherited by PID 1 and so held for the pod's life: a second shim for one pod cannot start. */
static int take_lock(void) {
    int fd = open("shim.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) return -errno;
    return fd;
}

static int bind_socket(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "shim.sock"};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(name.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 64) < 0) return -errno;
    return fd;
}

static int make_namespaces(const char *hostname, const struct shim_network *network) {
    int netlink = network ? shim_netlink_open() : -1;
    unsigned index = network ? if_nametoindex(network->bridge) : 0;
    if (network && !index) return -ENODEV;
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (network ? CLONE_NEWNET : 0)) < 0) return -errno;
    if (sethostname(hostname, strlen(hostname)) < 0) return -errno;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
    int status = network ? shim_network_attach(netlink, index, network) : 0;
    if (netlink >= 0) close(netlink);
    return status;
}

/* Field 22 of /proc/PID/stat: with the pid it names a process for the life of the machine. */
static int start_time(pid_t pid, char *text, size_t size) {
    char path[64], line[1024] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, line, sizeof line - 1) <= 0) return -EIO;
    close(fd);
    char *at = strrchr(line, ')'), *rest = NULL;
    if (!at) return -EIO;
    char *word = strtok_r(at + 1, " ", &rest);
    for (int field = 3; word && field < 22; field++) word = strtok_r(NULL, " ", &rest);
    if (!word) return -EIO;
    snprintf(text, size, "%s", word);
    return 0;
}

static int write_identity(pid_t pid) {
    char started[32], boot[64] = {0}, line[160];
    int status = start_time(pid, started, sizeof started);
    if (status) return status;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, boot, 36) != 36) return -EIO;
    close(fd);
    int size = snprintf(line, sizeof line, "%d %s %s\n", pid, started, boot);
    fd = open("shim.pid.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0 || write(fd, line, (size_t)size) != size) return -EIO;
    close(fd);
    return rename("shim.pid.new", "shim.pid") < 0 ? -errno : 0;
}

static int keep_standard_files(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), log = open("shim.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (null < 0 || log < 0) return -errno;
    dup2(null, 0);
    dup2(null, 1);
    dup2(log, 2);
    close(null);
    close(log);
    return 0;
}

static int mount_pod_file_systems(void) {
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) return -errno;
    if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0) return -errno;
    return 0;
}

/* PID 1 waits for word that its identity is on disk: nobody would find it otherwise. */
static int first_process(int listener, int word) {
    char go;
    if (read(word, &go, 1) != 1) return 1;
    close(word);
    int status = mount_pod_file_systems();
    if (!status) status = keep_standard_files();
    if (!status) status = shim_serve(listener);
    return status ? complain("serve", status) : 0;
}

static int launch(const char *directory, const char *hostname, const struct shim_network *network) {
    int pair[2];
    umask(022);
    close_range(3, ~0U, 0); /* what the agent's runtime left open would stay open for the pod's life */
    if (chdir(directory) < 0) return complain(directory, -errno);
    int lock = take_lock();
    if (lock < 0) return complain("lock", lock);
    int listener = bind_socket();
    if (listener < 0) return complain("socket", listener);
    setsid();
    int status = make_namespaces(hostname, network);
    if (status) return complain("namespaces", status);
    if (pipe2(pair, O_CLOEXEC) < 0) return complain("pipe", -errno);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[1]);
        _exit(first_process(listener, pair[0]));
    }
    status = pid < 0 ? -errno : write_identity(pid);
    if (!status && write(pair[1], "g", 1) != 1) status = -EIO;
    return status ? complain("identity", status) : 0;
}

static int run(int count, char **words) {
    if (count != 4 && count != 9) return complain("usage", -EINVAL);
    if (count == 4) return launch(words[2], words[3], NULL);
    struct shim_network network = {.bridge = words[4], .veth = words[5], .address = words[6],
                                   .prefix = (unsigned)atoi(words[7]), .gateway = words[8]};
    return launch(words[2], words[3], &network);
}

int main(int count, char **words) {
    int status = -EINVAL;
    if (count > 1 && !strcmp(words[1], "run")) return run(count, words);
    if (count == 5 && !strcmp(words[1], "bridge-add")) status = shim_bridge_add(words[2], words[3], (unsigned)atoi(words[4]));
    if (count == 3 && !strcmp(words[1], "link-delete")) status = shim_link_delete(words[2]);
    return status ? complain(count > 1 ? words[1] : "usage", status) : 0;
}

/* rtnetlink: the bridge, and one veth pair a pod. A message is built in a fixed buffer; nested
 * attributes are opened and closed by position. */
#define _GNU_SOURCE
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct message {
    union {
        struct nlmsghdr head;
        char bytes[2048];
    };
};

static void message_begin(struct message *m, uint16_t type, uint16_t flags, const void *body, size_t size) {
    memset(m, 0, sizeof *m);
    m->head.nlmsg_len = NLMSG_LENGTH(size);
    m->head.nlmsg_type = type;
    m->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    memcpy(NLMSG_DATA(&m->head), body, size);
}

static struct rtattr *message_add(struct message *m, uint16_t type, const void *value, size_t size) {
    size_t at = NLMSG_ALIGN(m->head.nlmsg_len);
    struct rtattr *attribute = (struct rtattr *)(void *)(m->bytes + at);
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    if (size) memcpy(RTA_DATA(attribute), value, size);
    m->head.nlmsg_len = (uint32_t)(at + RTA_ALIGN(attribute->rta_len));
    return attribute;
}

static void message_text(struct message *m, uint16_t type, const char *text) { message_add(m, type, text, strlen(text) + 1); }

static void message_close(struct message *m, struct rtattr *nest) {
    nest->rta_len = (uint16_t)(m->bytes + m->head.nlmsg_len - (char *)nest);
}

static int message_send(int fd, struct message *m) {
    union {
        struct nlmsghdr head;
        char bytes[4096];
    } answer;
    if (send(fd, m->bytes, m->head.nlmsg_len, 0) < 0) return -errno;
    for (;;) {
        ssize_t got = recv(fd, answer.bytes, sizeof answer.bytes, 0);
        if (got < 0) return -errno;
        if ((size_t)got < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.head.nlmsg_type != NLMSG_ERROR) continue;
        const struct nlmsgerr *result = NLMSG_DATA(&answer.head);
        return result->error;
    }
}

int shim_netlink_open(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? -errno : fd;
}

static int link_up(int fd, unsigned index) {
    struct message m;
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    message_begin(&m, RTM_NEWLINK, 0, &body, sizeof body);
    return message_send(fd, &m);
}

static int address_add(int fd, unsigned index, const char *address, unsigned prefix) {
    struct message m;
    struct in_addr ip;
    if (inet_pton(AF_INET, address, &ip) != 1) return -EINVAL;
    struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = (uint8_t)prefix, .ifa_index = index};
    message_begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
    message_add(&m, IFA_LOCAL, &ip, sizeof ip);
    message_add(&m, IFA_ADDRESS, &ip, sizeof ip);
    return message_send(fd, &m);
}

static int default_route_add(int fd, const char *gateway) {
    struct message m;
    struct in_addr ip;
    if (inet_pton(AF_INET, gateway, &ip) != 1) return -EINVAL;
    struct rtmsg body = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT,
                         .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    message_begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof body);
    message_add(&m, RTA_GATEWAY, &ip, sizeof ip);
    return message_send(fd, &m);
}

static int bridge_create(int fd, const char *name) {
    struct message m;
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    message_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    message_text(&m, IFLA_IFNAME, name);
    struct rtattr *info = message_add(&m, IFLA_LINKINFO, NULL, 0);
    message_text(&m, IFLA_INFO_KIND, "bridge");
    message_close(&m, info);
    int status = message_send(fd, &m);
    return status == -EEXIST ? 0 : status;
}

int shim_bridge_add(const char *name, const char *address, unsigned prefix) {
    int fd = shim_netlink_open();
    if (fd < 0) return fd;
    int status = bridge_create(fd, name);
    unsigned index = if_nametoindex(name);
    if (!status && !index) status = -ENODEV;
    if (!status) status = address_add(fd, index, address, prefix);
    if (!status) status = link_up(fd, index);
    close(fd);
    return status;
}

static int link_delete(int fd, const char *name) {
    struct message m;
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
    message_begin(&m, RTM_DELLINK, 0, &body, sizeof body);
    message_text(&m, IFLA_IFNAME, name);
    int status = message_send(fd, &m);
    return status == -ENODEV ? 0 : status;
}

int shim_link_delete(const char *name) {
    int fd = shim_netlink_open();
    if (fd < 0) return fd;
    int status = link_delete(fd, name);
    close(fd);
    return status;
}

static int veth_create(int fd, unsigned bridge_index, const char *name, int inner_namespace) {
    struct message m;
    struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    uint32_t master = bridge_index, target = (uint32_t)inner_namespace;
    message_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
    message_text(&m, IFLA_IFNAME, name);
    message_add(&m, IFLA_MASTER, &master, sizeof master);
    struct rtattr *info = message_add(&m, IFLA_LINKINFO, NULL, 0);
    message_text(&m, IFLA_INFO_KIND, "veth");
    struct rtattr *data = message_add(&m, IFLA_INFO_DATA, NULL, 0);
    struct ifinfomsg peer = {.ifi_family = AF_UNSPEC};
    struct rtattr *inner = message_add(&m, VETH_INFO_PEER, &peer, sizeof peer);
    message_text(&m, IFLA_IFNAME, "eth0");
    message_add(&m, IFLA_NET_NS_FD, &target, sizeof target);
    message_close(&m, inner);
    message_close(&m, data);
    message_close(&m, info);
    return message_send(fd, &m);
}

static int inner_configure(const struct shim_network *network) {
    int fd = shim_netlink_open();
    if (fd < 0) return fd;
    unsigned index = if_nametoindex("eth0");
    int status = index ? link_up(fd, if_nametoindex("lo")) : -ENODEV;
    if (!status) status = address_add(fd, index, network->address, network->prefix);
    if (!status) status = link_up(fd, index);
    if (!status) status = default_route_add(fd, network->gateway);
    close(fd);
    return status;
}

int shim_network_attach(int host_socket, unsigned bridge_index, const struct shim_network *network) {
    int inner = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (inner < 0) return -errno;
    int status = veth_create(host_socket, bridge_index, network->veth, inner);
    if (status == -EEXIST) {
        status = link_delete(host_socket, network->veth);
        if (!status) status = veth_create(host_socket, bridge_index, network->veth, inner);
    }
    close(inner);
    return status ? status : inner_configure(network);
}

/*
 * Which of our addresses is written to, and answering from it: on a machine of several, a peer
 * takes no answer from another one.
 */

#define _GNU_SOURCE
#include "names.h"

int tells(int fd)
{
    int four = 0, six = 0;
    socklen_t length = sizeof four;

    if (getsockopt(fd, IPPROTO_IP, IP_PKTINFO, &four, &length) != 0)
        four = 0;
    length = sizeof six;
    if (getsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &six, &length) != 0)
        six = 0;
    return four || six;
}

static void put_control(struct msghdr *header, int level, int type, const void *data,
                        size_t length)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(control), data, length);
    header->msg_controllen = CMSG_SPACE(length);
}

int send_to(struct rx *rx, const uint8_t *name, uint32_t named, const uint8_t *data,
            uint32_t length)
{
    struct iovec part = {(void *)data, length};
    struct msghdr header = {.msg_name = (void *)name, .msg_iov = &part, .msg_iovlen = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } control = {{0}};
    sa_family_t family;

    memcpy(&family, name, sizeof family);
    header.msg_namelen =
        family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (named >= header.msg_namelen + (family == AF_INET ? sizeof(struct in_addr) : OURS)) {
        const uint8_t *ours = name + header.msg_namelen;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        if (family == AF_INET) {
            struct in_pktinfo four = {0};

            memcpy(&four.ipi_spec_dst, ours, sizeof four.ipi_spec_dst);
            put_control(&header, IPPROTO_IP, IP_PKTINFO, &four, sizeof four);
        } else {
            struct in6_pktinfo six = {0};

            memcpy(&six.ipi6_addr, ours, OURS);
            put_control(&header, IPPROTO_IPV6, IPV6_PKTINFO, &six, sizeof six);
        }
    }
    if (sendmsg(rx->out, &header, MSG_DONTWAIT) < 0) {
        rx->counts.unsent++;
        return -1;
    }
    rx->counts.sent++;
    return 0;
}

/* A datagram's name: the address that it came from, and behind that the one of ours that it came
 * to, where the socket tells it. */
#ifndef RELAY_NAMES_H
#define RELAY_NAMES_H

#include "receiver.h"

#include <string.h>

/* The length of a datagram's name, with our address behind it where that is told. */
static inline uint32_t name_length(struct rx *rx, uint32_t at)
{
    struct msghdr *header = &rx->headers[at].msg_hdr;
    uint32_t length = header->msg_namelen;
    const struct cmsghdr *control;

    if (rx->told == 0 || (control = CMSG_FIRSTHDR(header)) == NULL)
        return length;
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO &&
        length == sizeof(struct sockaddr_in)) {
        struct in_pktinfo four;

        memcpy(&four, CMSG_DATA(control), sizeof four);
        memcpy(rx->names[at] + length, &four.ipi_spec_dst, sizeof four.ipi_spec_dst);
        return length + (uint32_t)sizeof four.ipi_spec_dst;
    }
    if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO &&
        length == sizeof(struct sockaddr_in6)) {
        struct in6_pktinfo six;

        memcpy(&six, CMSG_DATA(control), sizeof six);
        memcpy(rx->names[at] + length, &six.ipi6_addr, OURS);
        return length + OURS;
    }
    return length;
}

#pragma GCC visibility push(hidden)

/* Whether the socket says to which of our addresses a datagram came. */
int tells(int fd);

/* Send one datagram to a name, from the address of ours in it; 0, or -1: it did not leave. */
int send_to(struct rx *rx, const uint8_t *name, uint32_t named, const uint8_t *data,
            uint32_t length);

#pragma GCC visibility pop

#endif

/*
 * What is to leave, gathered and sent: messages of many tracks by one sendmmsg, through one socket.
 *
 * A track's packets of one length make one message with UDP_SEGMENT (the last may be shorter).
 */

#define _GNU_SOURCE
#include "messages.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

struct fan_out *fan_new(int fd, fan_protect protect, fan_protect protect_rtcp)
{
    struct fan_out *out = calloc(1, sizeof *out);

    if (out != NULL) {
        out->fd = fd;
        out->protect = protect;
        out->protect_rtcp = protect_rtcp;
    }
    return out;
}

void fan_free(struct fan_out *out)
{
    free(out);
}

static void put_control(struct msghdr *header, int level, int type, const void *data, size_t length)
{
    struct cmsghdr *control =
        (struct cmsghdr *)((char *)header->msg_control + header->msg_controllen);

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(control), data, length);
    header->msg_controllen += CMSG_SPACE(length);
}

/* Say which of our addresses a message leaves from, where that is not left to the kernel. */
static void leave_from(struct msghdr *header, const struct fan_track *track)
{
    if (track->ours_length == sizeof(struct in_addr)) {
        struct in_pktinfo four = {0};

        memcpy(&four.ipi_spec_dst, track->ours, sizeof four.ipi_spec_dst);
        put_control(header, IPPROTO_IP, IP_PKTINFO, &four, sizeof four);
    } else if (track->ours_length == sizeof(struct in6_addr)) {
        struct in6_pktinfo six = {0};

        memcpy(&six.ipi6_addr, track->ours, sizeof six.ipi6_addr);
        put_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &six, sizeof six);
    }
}

static void prepare(struct fan_out *out, unsigned index)
{
    const struct message *message = &out->messages[index];
    struct msghdr *header = &out->headers[index].msg_hdr;

    out->vectors[index].iov_base = message->start;
    out->vectors[index].iov_len = message->length;
    memset(header, 0, sizeof *header);
    header->msg_name = (void *)message->track->address;
    header->msg_namelen = message->track->address_length;
    header->msg_iov = &out->vectors[index];
    header->msg_iovlen = 1;
    if (message->segments > 1 || message->track->ours_length > 0) {
        header->msg_control = out->controls[index].bytes;
        if (message->segments > 1)
            put_control(header, SOL_UDP, UDP_SEGMENT, &message->segment, sizeof message->segment);
        leave_from(header, message->track);
    }
}

/* The packets of a prepared message, each by itself. */
static void send_singly(struct fan_out *out, unsigned index, struct fan_counts *counts)
{
    const struct message *message = &out->messages[index];
    struct msghdr *header = &out->headers[index].msg_hdr;
    struct iovec *part = &out->vectors[index];

    header->msg_control = out->controls[index].bytes;
    header->msg_controllen = 0;
    leave_from(header, message->track);
    for (size_t at = 0; at < message->length; at += part->iov_len) {
        part->iov_base = message->start + at;
        part->iov_len = message->length - at;
        if (part->iov_len > message->segment)
            part->iov_len = message->segment;
        if (sendmsg(out->fd, header, 0) < 0)
            counts->unsent++;
        else
            counts->sent++;
    }
}

void fan_flush(struct fan_out *out, struct fan_counts *counts)
{
    unsigned done = 0;

    for (unsigned index = 0; index < out->count; index++)
        prepare(out, index);
    while (done < out->count) {
        int sent = sendmmsg(out->fd, out->headers + done, out->count - done, 0);

        if (sent > 0) {
            for (int index = 0; index < sent; index++)
                counts->sent += out->messages[done + (unsigned)index].segments;
            done += (unsigned)sent;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
            for (; done < out->count; done++)
                counts->unsent += out->messages[done].segments;
            break;
        }
        if (out->messages[done].segments > 1 &&
            (errno == EIO || errno == EINVAL || errno == EMSGSIZE || errno == ENOPROTOOPT)) {
            /* EMSGSIZE is of one way, and EINVAL may be of an address that is ours no more; what
             * only cutting hinders is of the machine. */
            int one_way = errno == EMSGSIZE;
            uint64_t before = counts->sent;

            send_singly(out, done, counts);
            if (!one_way && counts->sent > before)
                out->no_segments = 1;
        } else {
            counts->unsent += out->messages[done].segments;
        }
        done++;
    }
    out->count = 0;
    out->used = 0;
}

void fan_put(struct fan_out *out, const struct fan_track *track, uint8_t *start, size_t length)
{
    out->messages[out->count++] = (struct message){start, length, 1, (uint16_t)length, track};
    out->used += length;
}

/*
 * One frame to many viewers: header, SRTP and send, in one call. Sender reports likewise.
 *
 * What goes in is ours alone: payloads that the gateway cut, and tracks that it made. No
 * byte of a stranger is read here. Keys stay with libsrtp, whose functions come in as
 * pointers from the library that pylibsrtp carries, so that nothing is linked.
 *
 * All messages leave through one socket. A track's packets of one length make one message
 * with UDP_SEGMENT (the last may be shorter), and messages of many tracks one sendmmsg.
 */

#define _GNU_SOURCE
#include "fanout.h"

#include "bytes.h"
#include "consent.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define HEADER 12
#define VERSION 0x80
#define EXTENSION 0x10
#define MARKER 0x80
#define NUMBER_ONLY 8          /* bytes of an extension of a transport-wide number alone */
#define MESSAGES 128           /* of one sendmmsg */
#define ARENA (1 << 20)        /* bytes of them all */
#define SEGMENTS 64            /* of one message: UDP_MAX_SEGMENTS of Linux before 6.9 */
#define MESSAGE 65000          /* bytes of one message */
#define SENDER_REPORT 200
#define DESCRIPTION 202
#define CNAME 1
#define REPORT 28              /* bytes of a sender report without blocks */
#define TOGETHER 4             /* tracks that share a datagram of reports */
#define LINE 64                /* bytes of a cache line */
#define SLAB ((size_t)2 << 20) /* bytes of a large page */
#define LOGS 127               /* in one of them */
#define FETCHED 3              /* lines of a log that a frame writes to, mostly */
#define TRAILER 160            /* what libsrtp may want behind a packet: SRTP_MAX_TRAILER_LEN */

struct message {
    uint8_t *start;
    size_t length;
    unsigned segments;
    uint16_t segment;          /* bytes of each, but for the last */
    const struct fan_track *track;
};

struct fan_out {
    fan_protect protect;
    fan_protect protect_rtcp;
    int fd;
    int no_segments;           /* this kernel or device cannot cut messages */
    unsigned count;
    size_t used;
    struct message messages[MESSAGES];
    struct mmsghdr headers[MESSAGES];
    struct iovec vectors[MESSAGES];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } controls[MESSAGES];
    uint8_t arena[ARENA];
};

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

size_t fan_track_size(void)
{
    return sizeof(struct fan_track);
}

/* -- logs ------------------------------------------------------------------------------------- */

/* A frame writes to the logs of all viewers: in a place of its own each of them would cost a look
 * at the tables of pages, which the caches have lost since the last frame. */
struct slab {
    struct slab *next, *before; /* of those with a free place */
    uint32_t used;
    uint64_t free[(LOGS + 63) / 64];
};

union place {
    struct fan_log log;
    char lines[(sizeof(struct fan_log) + LINE - 1) / LINE * LINE];
};

_Static_assert(sizeof(struct slab) + LINE + LOGS * sizeof(union place) <= SLAB, "logs fit");

static struct slab *with_room;

static union place *places_of(struct slab *slab)
{
    return (union place *)((char *)slab + (sizeof *slab + LINE - 1) / LINE * LINE);
}

static void link_slab(struct slab *slab)
{
    slab->before = NULL;
    slab->next = with_room;
    if (with_room != NULL)
        with_room->before = slab;
    with_room = slab;
}

static void unlink_slab(struct slab *slab)
{
    if (slab->next != NULL)
        slab->next->before = slab->before;
    if (slab->before != NULL)
        slab->before->next = slab->next;
    else
        with_room = slab->next;
}

struct fan_log *fan_log_new(void)
{
    struct slab *slab = with_room;
    union place *place;
    unsigned word = 0, bit;

    if (slab == NULL) {
        if ((slab = aligned_alloc(SLAB, SLAB)) == NULL)
            return NULL;
        madvise(slab, SLAB, MADV_HUGEPAGE); /* where there are none, small ones do */
        memset(slab, 0, sizeof *slab);
        for (unsigned at = 0; at < LOGS; at++)
            slab->free[at / 64] |= 1ull << at % 64;
        link_slab(slab);
    }
    while (slab->free[word] == 0)
        word++;
    bit = (unsigned)__builtin_ctzll(slab->free[word]);
    slab->free[word] &= ~(1ull << bit);
    if (++slab->used == LOGS)
        unlink_slab(slab);
    place = &places_of(slab)[word * 64 + bit];
    place->log.next = place->log.octets = 0;
    return &place->log;
}

void fan_log_free(struct fan_log *log)
{
    struct slab *slab = (struct slab *)((uintptr_t)log & ~(uintptr_t)(SLAB - 1));
    size_t index = (size_t)((union place *)log - places_of(slab));

    slab->free[index / 64] |= 1ull << index % 64;
    if (slab->used-- == LOGS)
        link_slab(slab);
    if (slab->used == 0) {
        unlink_slab(slab);
        free(slab);
    }
}

/* -- packets ---------------------------------------------------------------------------------- */

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

/*
 * Send what is gathered. A full socket drops the rest: it is asked for again, and a frame
 * that comes late is worth less than the next one in time. An address that cannot be
 * reached drops its own message only.
 */
static void flush(struct fan_out *out, struct fan_counts *counts)
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

_Static_assert(sizeof((struct fan_log *)0)->sent == FAN_REMEMBERED * sizeof(struct fan_sent),
               "the log is as long as it says");

static double monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The number of a packet that leaves now. */
static uint16_t take_number(struct fan_log *log, size_t length, double now)
{
    uint64_t number = log->next++;

    log->octets += length + FAN_OVERHEAD;
    log->sent[number % FAN_REMEMBERED] = (struct fan_sent){now, log->octets};
    return (uint16_t)number;
}

/* Write the extension; returns its length. Only the first packets carry the whole of it. */
static size_t write_extension(struct fan_track *track, uint8_t *at, size_t length, double now,
                              int whole)
{
    size_t size = whole ? track->extension_length : NUMBER_ONLY;

    memcpy(at, track->extension, size);
    if (track->log != NULL) {
        if (!whole) {
            put16(at + 2, NUMBER_ONLY / 4 - 1);
            at[7] = 0;
        }
        put16(at + 5, take_number(track->log, length, now));
    }
    return size;
}

/* Write one packet at ``at``; returns its length when protected, 0 when that failed. */
static size_t write_packet(struct fan_out *out, struct fan_track *track, uint8_t *at,
                           const uint8_t *payload, size_t length, uint32_t timestamp,
                           int marker, int extended, double now)
{
    size_t head = HEADER;
    int total;

    at[0] = (uint8_t)(VERSION | (extended || track->log != NULL ? EXTENSION : 0));
    at[1] = (uint8_t)((marker ? MARKER : 0) | track->payload_type);
    put16(at + 2, track->sequence);
    put32(at + 4, track->offset + timestamp);
    put32(at + 8, track->ssrc);
    if (extended || track->log != NULL)
        head += write_extension(track, at + head, length, now, extended);
    memcpy(at + head, payload, length);
    total = (int)(head + length);
    track->sequence++;
    track->packets++;
    track->octets += length;
    track->status = out->protect(track->srtp, at, &total);
    return track->status == 0 && total > 0 ? (size_t)total : 0;
}

static int send_track(struct fan_out *out, struct fan_track *track, const struct fan_frame *frame,
                      struct fan_counts *counts)
{
    int extended = track->extension_length > 0 && track->packets < track->extension_packets;
    double now = track->log != NULL ? monotonic() : 0;
    struct message *message = NULL;
    const uint8_t *payload = frame->payloads;

    for (size_t index = 0; index < frame->packets; payload += frame->lengths[index++]) {
        size_t length = frame->lengths[index];
        size_t need = HEADER + sizeof track->extension + length + TRAILER;
        size_t written;

        if (out->used + need > ARENA) {
            message = NULL;
            flush(out, counts);
        }
        written = write_packet(out, track, out->arena + out->used, payload, length,
                               frame->timestamp, frame->marker && index + 1 == frame->packets,
                               extended, now);
        if (written == 0)
            return -1;
        if (message != NULL && !out->no_segments && written <= message->segment &&
            message->length == (size_t)message->segment * message->segments &&
            message->segments < SEGMENTS && message->length + written <= MESSAGE) {
            message->segments++;
            message->length += written;
            out->used += written;
            continue;
        }
        if (out->count == MESSAGES) {
            /* The packet moves to the front, over what flush has sent. */
            uint8_t *from = out->arena + out->used;

            flush(out, counts);
            memmove(out->arena, from, written);
        }
        message = &out->messages[out->count++];
        message->start = out->arena + out->used;
        message->length = written;
        message->segments = 1;
        message->segment = (uint16_t)written;
        message->track = track;
        out->used += written;
    }
    track->timestamp = frame->timestamp;
    return 0;
}

/* Tracks lie all over the memory, and between two frames others use the caches: what the next
 * ones need is fetched while this one is at work, of each what leads to the rest one step before. */
static void fetch_ahead(struct fan_track *const *tracks, size_t count, size_t index)
{
    const struct fan_log *log;

    if (index + 3 < count)
        for (size_t at = 0; at < sizeof **tracks; at += LINE)
            __builtin_prefetch((const char *)tracks[index + 3] + at, 1);
    if (index + 2 < count) {
        __builtin_prefetch(tracks[index + 2]->srtp);
        __builtin_prefetch(tracks[index + 2]->log, 1);
    }
    if (index + 1 < count && (log = tracks[index + 1]->log) != NULL)
        for (size_t at = 0; at < FETCHED; at++)
            __builtin_prefetch(&log->sent[(log->next + at * LINE / sizeof *log->sent) %
                                          FAN_REMEMBERED], 1);
}

size_t fan_send(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                const struct fan_frame *frame, struct fan_counts *counts)
{
    size_t failed = 0;

    for (size_t index = 0; index < frame->packets; index++)
        if (frame->lengths[index] > FAN_MAX_PAYLOAD)
            return count;
    for (size_t index = 0; index < count; index++) {
        struct fan_track *track = tracks[index];

        fetch_ahead(tracks, count, index);
        track->status = 0;
        if (track->srtp != NULL && send_track(out, track, frame, counts) != 0)
            failed++;
    }
    flush(out, counts);
    return failed;
}

size_t fan_payloads(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                    const uint8_t *payloads, const void *lengths, size_t packets,
                    uint32_t timestamp, int32_t marker, struct fan_counts *counts)
{
    struct fan_frame frame = {payloads, lengths, packets, timestamp, marker};

    return fan_send(out, tracks, count, &frame, counts);
}

static void write_report(const struct fan_track *track, uint8_t *at, uint64_t ntp, double line)
{
    double ticks = line * track->clock_rate;

    at[0] = VERSION;
    at[1] = SENDER_REPORT;
    put16(at + 2, REPORT / 4 - 1);
    put32(at + 4, track->ssrc);
    put32(at + 8, (uint32_t)(ntp >> 32));
    put32(at + 12, (uint32_t)ntp);
    put32(at + 16, track->offset + (uint32_t)(int64_t)(ticks + (ticks < 0 ? -0.5 : 0.5)));
    put32(at + 20, (uint32_t)track->packets);
    put32(at + 24, (uint32_t)track->octets);
}

/* The chunk of one source; returns its length. */
static size_t write_name(const struct fan_track *track, uint8_t *at)
{
    size_t length = track->name_length;
    size_t whole = (6 + length) / 4 * 4 + 4; /* at least one zero ends the list of items */

    memset(at, 0, whole);
    put32(at, track->ssrc);
    at[4] = CNAME;
    at[5] = (uint8_t)length;
    memcpy(at + 6, track->name, length);
    return whole;
}

/* One datagram by itself, which was written where the next is to begin. */
static void put_message(struct fan_out *out, const struct fan_track *track, uint8_t *start,
                        size_t length)
{
    out->messages[out->count++] = (struct message){start, length, 1, (uint16_t)length, track};
    out->used += length;
}

static int report_together(struct fan_out *out, struct fan_track *const *tracks, unsigned count,
                           uint64_t ntp, double line, struct fan_counts *counts)
{
    uint8_t *start, *at, *head;
    int total;

    if (out->count == MESSAGES ||
        out->used + TOGETHER * (REPORT + sizeof tracks[0]->name + 12) + 4 + TRAILER > ARENA)
        flush(out, counts);
    start = at = out->arena + out->used;
    for (unsigned index = 0; index < count; index++, at += REPORT)
        write_report(tracks[index], at, ntp, line);
    if (tracks[0]->name_length > 0) {
        head = at;
        at += 4;
        for (unsigned index = 0; index < count; index++)
            at += write_name(tracks[index], at);
        head[0] = (uint8_t)(VERSION | count);
        head[1] = DESCRIPTION;
        put16(head + 2, (uint16_t)((at - head) / 4 - 1));
    }
    total = (int)(at - start);
    tracks[0]->status = out->protect_rtcp(tracks[0]->srtp, start, &total);
    if (tracks[0]->status != 0 || total <= 0)
        return -1;
    put_message(out, tracks[0], start, (size_t)total);
    return 0;
}

size_t fan_report(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                  uint64_t ntp, double line, struct fan_counts *counts)
{
    struct fan_track *together[TOGETHER];
    unsigned number = 0;
    size_t failed = 0;

    for (size_t index = 0; index < count; index++) {
        struct fan_track *track = tracks[index];

        if (track->srtp == NULL || track->packets == 0 || track->name_length > sizeof track->name)
            continue;
        if (number == TOGETHER || (number > 0 && together[0]->srtp != track->srtp)) {
            failed += report_together(out, together, number, ntp, line, counts) != 0;
            number = 0;
        }
        together[number++] = track;
    }
    if (number > 0)
        failed += report_together(out, together, number, ntp, line, counts) != 0;
    flush(out, counts);
    return failed;
}

size_t fan_ask(struct fan_out *out, struct fan_track *const *tracks, size_t count,
               const uint8_t *random, double now, uint32_t *late, struct fan_counts *counts)
{
    size_t number = 0;

    for (size_t index = 0; index < count; index++, random += FAN_RANDOM) {
        struct fan_track *track = tracks[index];
        uint32_t length;
        int told;

        if (track->consent == NULL || track->srtp == NULL)
            continue;
        if (out->count == MESSAGES || out->used + STUN_LONGEST_REQUEST > ARENA)
            flush(out, counts);
        told = consent_ask(track->consent, random, now, out->arena + out->used, &length);
        if (told == CONSENT_LATE)
            late[number++] = (uint32_t)index;
        if (told != CONSENT_ASK)
            continue;
        consent_asked(track->consent, random, now, (uint16_t)(random[12] << 8 | random[13]));
        put_message(out, track, out->arena + out->used, length);
    }
    flush(out, counts);
    return number;
}

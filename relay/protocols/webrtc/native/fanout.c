/*
 * One frame to many viewers: header, SRTP and send, in one call.
 *
 * What goes in is ours alone: payloads that the gateway cut, and tracks that it made. No
 * byte of a stranger is read here. Keys stay with libsrtp, whose functions come in as
 * pointers from the library that pylibsrtp carries, so that nothing is linked.
 */

#define _GNU_SOURCE
#include "fanout.h"

#include "again.h"
#include "bytes.h"
#include "messages.h"
#include "packets.h"

#include <string.h>

#define LINE 64                /* bytes of a cache line */
#define FETCHED 3              /* lines of a log that a frame writes to, mostly */

size_t fan_track_size(void)
{
    return sizeof(struct fan_track);
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
            fan_flush(out, counts);
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
            /* The packet moves to the front, over what is sent. */
            uint8_t *from = out->arena + out->used;

            fan_flush(out, counts);
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
        for (size_t at = 0; at < offsetof(struct fan_track, clock_rate); at += LINE)
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

size_t fan_payloads(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                    const uint8_t *payloads, const void *lengths, size_t packets,
                    uint32_t timestamp, int32_t marker, struct fan_history *history,
                    struct fan_counts *counts)
{
    const struct fan_frame frame = {payloads, lengths, packets, timestamp, marker};
    size_t failed = 0;

    for (size_t index = 0; index < packets; index++)
        if (frame.lengths[index] > FAN_MAX_PAYLOAD)
            return count;
    for (size_t index = 0; index < count; index++) {
        struct fan_track *track = tracks[index];

        fetch_ahead(tracks, count, index);
        track->status = 0;
        if (track->srtp != NULL && send_track(out, track, &frame, counts) != 0)
            failed++;
    }
    fan_flush(out, counts);
    if (history != NULL)
        fan_keep(history, &frame);
    return failed;
}

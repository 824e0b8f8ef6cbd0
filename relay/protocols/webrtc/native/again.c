/*
 * What was sent to many, and is asked for again: the newest packets, kept once for all of them.
 *
 * A number that a stranger asks for is compared, and leads to what is kept or nowhere.
 */

#define _GNU_SOURCE
#include "again.h"

#include "bytes.h"
#include "messages.h"

#include <stdlib.h>
#include <string.h>

#define RTX_NUMBER 2           /* bytes before the payload (RFC 4588) */

struct kept {
    const uint8_t *payload;
    void *block;               /* of the last packet of a frame: where all of that are */
    uint32_t timestamp;
    uint16_t length;           /* 0: it is not kept, there was no memory */
    uint8_t marker;
};

struct fan_history {
    struct fan_out *out;
    struct fan_counts *counts;
    uint64_t total;            /* packets so far */
    struct kept kept[FAN_HISTORY]; /* of number % FAN_HISTORY */
};

struct fan_history *fan_history_new(struct fan_out *out, struct fan_counts *counts)
{
    struct fan_history *history = calloc(1, sizeof *history);

    if (history != NULL) {
        history->out = out;
        history->counts = counts;
    }
    return history;
}

void fan_history_free(struct fan_history *history)
{
    for (size_t at = 0; at < FAN_HISTORY; at++)
        free(history->kept[at].block);
    free(history);
}

void fan_follow(struct fan_track *track, struct fan_history *history)
{
    track->history = history;
    track->since = history == NULL ? 0 : history->total;
}

void fan_keep(struct fan_history *history, const struct fan_frame *frame)
{
    size_t size = 0;
    uint8_t *block;

    for (size_t index = 0; index < frame->packets; index++)
        size += frame->lengths[index];
    block = malloc(size > 0 ? size : 1);
    if (block != NULL)
        memcpy(block, frame->payloads, size);
    size = 0;
    for (size_t index = 0; index < frame->packets; size += frame->lengths[index++]) {
        struct kept *kept = &history->kept[history->total++ % FAN_HISTORY];
        int last = index + 1 == frame->packets;

        free(kept->block);
        kept->block = last ? block : NULL;
        kept->payload = block != NULL ? block + size : NULL;
        kept->timestamp = frame->timestamp;
        kept->length = block != NULL ? frame->lengths[index] : 0;
        kept->marker = last && frame->marker;
    }
}

/* NULL: it was not sent along with others, or is not kept any more. */
static const struct kept *find_kept(const struct fan_track *track, uint16_t sequence)
{
    const struct fan_history *history = track->history;
    uint16_t back = (uint16_t)(track->sequence - 1 - sequence);
    const struct kept *kept;

    if (back >= FAN_HISTORY || back >= history->total - track->since)
        return NULL;
    kept = &history->kept[(history->total - 1 - back) % FAN_HISTORY];
    return kept->length > 0 ? kept : NULL;
}

/* Write one at ``at``; returns its length when protected, 0 when that failed. */
static size_t write_again(const struct fan_out *out, struct fan_track *track, uint8_t *at,
                          const struct kept *kept, uint16_t sequence)
{
    int rtx = track->rtx_ssrc != 0, total;
    size_t head = HEADER;

    at[0] = (uint8_t)(VERSION | (track->log != NULL ? EXTENSION : 0));
    at[1] = (uint8_t)((kept->marker ? MARKER : 0) |
                      (rtx ? track->rtx_payload_type : track->payload_type));
    put16(at + 2, rtx ? ++track->rtx_sequence : sequence);
    put32(at + 4, track->offset + kept->timestamp);
    put32(at + 8, rtx ? track->rtx_ssrc : track->ssrc);
    if (track->log != NULL)
        head += write_extension(track, at + head, kept->length, monotonic(), 0);
    if (rtx) {
        put16(at + head, sequence);
        head += RTX_NUMBER;
    }
    memcpy(at + head, kept->payload, kept->length);
    total = (int)(head + kept->length);
    track->resent++;
    return out->protect(track->srtp, at, &total) == 0 && total > 0 ? (size_t)total : 0;
}

int fan_again(struct fan_track *track, const uint16_t *sequences, size_t count)
{
    struct fan_out *out;
    size_t written = 1;

    if (track->history == NULL || track->srtp == NULL)
        return -1;
    for (size_t index = 0; index < count; index++)
        if (find_kept(track, sequences[index]) == NULL)
            return -1;
    out = track->history->out;
    for (size_t index = 0; index < count && written > 0; index++) {
        const struct kept *kept = find_kept(track, sequences[index]);
        size_t need = HEADER + sizeof track->extension + RTX_NUMBER + kept->length + TRAILER;

        if (out->count == MESSAGES || out->used + need > ARENA)
            fan_flush(out, track->history->counts);
        written = write_again(out, track, out->arena + out->used, kept, sequences[index]);
        if (written > 0)
            fan_put(out, track, out->arena + out->used, written);
    }
    fan_flush(out, track->history->counts);
    return written > 0 ? 0 : -1;
}

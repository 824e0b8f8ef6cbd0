/*
 * Access units to RTP payloads (RFC 6184, packetization mode 1): what each field is for, and why
 * it is cut so, is said in h264_payload.py. What is read is what a worker made.
 */

#include "payload.h"

#include "bytes.h"

#include <stdlib.h>
#include <string.h>

#define STAP_A 24
#define FU_A 28
#define MOST_NALS 8192
#define LEAST_MTU 16u

/* Where the next start code of three bytes is, or ``end``. */
static const uint8_t *next_code(const uint8_t *at, const uint8_t *end)
{
    while (end - at > 2) {
        const uint8_t *one = memchr(at + 2, 1, (size_t)(end - at - 2));

        if (one == NULL)
            return end;
        if (one[-1] == 0 && one[-2] == 0)
            return one - 2;
        at = one - 1;
    }
    return end;
}

static int fits(const struct payload_cutter *cutter, uint32_t bytes)
{
    return bytes <= cutter->room - cutter->used && cutter->count < cutter->most;
}

/* The payload that is being put together is whole. */
static void flush(struct payload_cutter *cutter)
{
    uint8_t *start = cutter->out + cutter->begun;

    if (cutter->small == 1) { /* as it is, without a header and a length in front */
        memmove(start, start + 3, cutter->used - cutter->begun - 3);
        cutter->used -= 3;
    } else if (cutter->small > 1) {
        start[0] = (uint8_t)(cutter->importance | STAP_A);
    }
    if (cutter->small > 0)
        cutter->lengths[cutter->count++] = (uint16_t)(cutter->used - cutter->begun);
    cutter->small = 0;
    cutter->importance = 0;
    cutter->begun = cutter->used;
    cutter->left = cutter->mtu - 1;
}

/* 0, or -1: no room. */
static int put_small(struct payload_cutter *cutter, const uint8_t *nal, uint32_t length)
{
    uint8_t importance = nal[0] & 0x60, *out;

    if (!fits(cutter, length + 3))
        return -1;
    if (cutter->small++ == 0)
        cutter->used++;
    out = cutter->out + cutter->used;
    put16(out, length);
    memcpy(out + 2, nal, length);
    cutter->used += length + 2;
    cutter->left -= length + 2;
    if (importance > cutter->importance)
        cutter->importance = importance;
    return 0;
}

static int put_alone(struct payload_cutter *cutter, const uint8_t *nal, uint32_t length)
{
    if (!fits(cutter, length))
        return -1;
    memcpy(cutter->out + cutter->used, nal, length);
    cutter->used += length;
    cutter->begun = cutter->used;
    cutter->lengths[cutter->count++] = (uint16_t)length;
    return 0;
}

static int put_pieces(struct payload_cutter *cutter, const uint8_t *nal, uint32_t length)
{
    uint32_t piece = cutter->mtu - 2, at = 1;
    uint8_t indicator = (uint8_t)((nal[0] & 0xE0) | FU_A), kind = nal[0] & 0x1F;

    while (at < length) {
        uint32_t here = length - at < piece ? length - at : piece;
        uint8_t *out = cutter->out + cutter->used;

        if (!fits(cutter, here + 2))
            return -1;
        out[0] = indicator;
        out[1] = (uint8_t)(kind | (at == 1 ? 0x80 : 0) | (at + here == length ? 0x40 : 0));
        memcpy(out + 2, nal + at, here);
        cutter->used += here + 2;
        cutter->begun = cutter->used;
        cutter->lengths[cutter->count++] = (uint16_t)(here + 2);
        at += here;
    }
    return 0;
}

static int put_nal(struct payload_cutter *cutter, const uint8_t *nal, uint32_t length)
{
    if (length + 2 <= cutter->left)
        return put_small(cutter, nal, length);
    if (cutter->count == cutter->most)
        return -1;
    flush(cutter);
    if (length > cutter->mtu)
        return put_pieces(cutter, nal, length);
    if (length + 2 <= cutter->left)
        return put_small(cutter, nal, length);
    return put_alone(cutter, nal, length);
}

/* For what a picture of so many bytes is cut into, other than of a crowd of tiny NAL units. 0, or
 * -1: no memory. */
static int make_room(struct payload_cutter *cutter, uint32_t size)
{
    uint32_t room = size + size / 8 + 64, most = size / cutter->mtu + 64;

    if (room > cutter->room) {
        uint8_t *larger = realloc(cutter->out, room);

        if (larger == NULL)
            return -1;
        cutter->out = larger;
        cutter->room = room;
    }
    if (most > cutter->most) {
        uint16_t *larger = realloc(cutter->lengths, most * sizeof *larger);

        if (larger == NULL)
            return -1;
        cutter->lengths = larger;
        cutter->most = most;
    }
    return 0;
}

int32_t payload_cut(struct payload_cutter *cutter, const uint8_t *annexb, uint32_t size,
                    uint32_t mtu)
{
    const uint8_t *end = annexb + size, *nal = next_code(annexb, end);

    if (mtu < LEAST_MTU || mtu > UINT16_MAX || size > INT32_MAX)
        return -1;
    cutter->mtu = mtu;
    cutter->left = mtu - 1;
    cutter->used = cutter->count = cutter->small = cutter->begun = 0;
    cutter->importance = 0;
    if (make_room(cutter, size) != 0)
        return -1;
    for (uint32_t found = 0; nal != end; found++) {
        const uint8_t *next, *last;

        nal += 3;
        last = next = next_code(nal, end);
        while (last > nal && last[-1] == 0)
            last--;
        if (found == MOST_NALS ||
            (last > nal && put_nal(cutter, nal, (uint32_t)(last - nal)) != 0))
            return -1;
        nal = next;
    }
    if (cutter->count == cutter->most)
        return -1;
    flush(cutter);
    return (int32_t)cutter->count;
}

struct payload_cutter *payload_new(void)
{
    return calloc(1, sizeof(struct payload_cutter));
}

void payload_free(struct payload_cutter *cutter)
{
    if (cutter != NULL) {
        free(cutter->out);
        free(cutter->lengths);
    }
    free(cutter);
}

uint32_t payload_cutter_size(void)
{
    return sizeof(struct payload_cutter);
}

/*
 * Publishers and viewers, as Python has them come, change and go.
 */

#define _GNU_SOURCE
#include "receiver.h"

#include "routes.h"
#include "stun.h"

#include <stdlib.h>
#include <string.h>

size_t rx_stream_size(void)
{
    return sizeof(struct rx_stream);
}

struct rx_stream *rx_open(struct rx *rx, void *srtp, uint8_t payload_type, uint8_t extension,
                          uint32_t number)
{
    struct rx_stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL)
        return NULL;
    stream->srtp = srtp;
    stream->payload_type = payload_type;
    stream->extension = extension;
    stream->number = number;
    rx->streams++;
    stream->route.tokens = rx->limits.burst;
    stream->route.refilled = rx->now;
    stream->others = rx->limits.burst;
    stream->others_at = rx->now;
    return stream;
}

void rx_close(struct rx *rx, struct rx_stream *stream)
{
    unroute(rx, &stream->route);
    rx->streams--;
    free(stream->train);
    free(stream->bytes);
    free(stream);
}

int rx_resume(struct rx *rx, struct rx_stream *stream, const uint8_t *address, uint32_t length,
              uint32_t ssrc, uint16_t next)
{
    if (length > sizeof stream->address || lead(rx, &stream->route, address, length) != 0)
        return -1;
    memcpy(stream->address, address, length);
    stream->address_length = length;
    stream->ssrc = ssrc;
    stream->next = next;
    stream->packets = 0;
    stream->used = 0;
    stream->plain = 0;
    stream->active = 1;
    return 0;
}

void rx_pause(struct rx_stream *stream)
{
    stream->active = 0;
}

void rx_clear(struct rx_stream *stream)
{
    stream->packets = 0;
    stream->used = 0;
}

int rx_know(struct rx_stream *stream, const uint8_t *head, uint32_t length, uint8_t mask,
            uint8_t value)
{
    stream->head_length = 0;
    if (length > sizeof stream->head)
        return -1;
    memcpy(stream->head, head, length);
    stream->head_length = length;
    stream->mask = mask;
    stream->value = value;
    return 0;
}

struct rx_viewer *rx_admit(struct rx *rx, void *srtp, uint32_t number)
{
    struct rx_viewer *viewer = calloc(1, sizeof *viewer);

    if (viewer == NULL)
        return NULL;
    viewer->srtp = srtp;
    viewer->number = number;
    viewer->route.kind = VIEWER;
    viewer->route.tokens = rx->limits.burst;
    viewer->route.refilled = rx->now;
    return viewer;
}

void rx_dismiss(struct rx *rx, struct rx_viewer *viewer)
{
    unroute(rx, &viewer->route);
    free(viewer);
}

int rx_hear(struct rx *rx, struct rx_viewer *viewer, const uint8_t *address, uint32_t length)
{
    return lead(rx, &viewer->route, address, length);
}

int rx_agree(struct rx_consent *consent, const uint8_t *name, uint32_t name_length,
             const uint8_t *ours, uint32_t ours_length, const uint8_t *theirs,
             uint32_t theirs_length)
{
    if (name_length > sizeof consent->name)
        return -1;
    memcpy(consent->name, name, name_length);
    consent->name_length = name_length;
    stun_make_key(&consent->ours, ours, ours_length);
    stun_make_key(&consent->theirs, theirs, theirs_length);
    consent->asked = 0;
    return 0;
}

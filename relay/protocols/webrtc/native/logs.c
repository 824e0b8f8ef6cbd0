/*
 * Logs of when each packet left, of many viewers side by side.
 */

#define _GNU_SOURCE
#include "fanout.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE 64                /* bytes of a cache line */
#define SLAB ((size_t)2 << 20) /* bytes of a large page */
#define LOGS 127               /* in one of them */

_Static_assert(sizeof((struct fan_log *)0)->sent == FAN_REMEMBERED * sizeof(struct fan_sent),
               "the log is as long as it says");

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

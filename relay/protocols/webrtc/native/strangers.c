/*
 * Most of what strangers send is for nobody, and Python is not to see it: whoever sends much of it
 * would else take the core that it runs on. What it knows is counted here by its hash, in two
 * places: what it does not know is found in both of them by chance only, and then Python drops it
 * as it drops everything where this is not built (``udp.py``, ``sources.py``).
 */

#define _GNU_SOURCE
#include "strangers.h"

#include "budget.h"
#include "routes.h"
#include "stun.h"
#include "units.h"

#define NAMES_USER 0x0006      /* the attribute USERNAME */
#define FRONT 16               /* attributes among which USERNAME is looked for, as stun.py has it */
#define STRAYS 4000.0          /* packets of media a second that may be of a peer that moves: 2 % of
                                  a core. Of 100,000 that come it has some of its own among them */

static void places_of(const struct rx *rx, uint32_t what, const uint8_t *bytes, uint32_t length,
                      uint32_t *places)
{
    uint64_t hash = (rx->seed ^ what) * 0x9E3779B97F4A7C15u;

    for (uint32_t at = 0; at < length; at++)
        hash = (hash ^ bytes[at]) * 0x100000001B3u;
    hash ^= hash >> 29;
    hash *= 0x9E3779B97F4A7C15u;
    places[0] = (uint32_t)(hash >> 16) & (FAMILIAR - 1);
    places[1] = (uint32_t)(hash >> 40) & (FAMILIAR - 1);
}

static int is_familiar(const struct rx *rx, uint32_t what, const uint8_t *bytes, uint32_t length)
{
    uint32_t places[2];

    places_of(rx, what, bytes, length, places);
    return rx->familiar[places[0]] > 0 && rx->familiar[places[1]] > 0;
}

void rx_know_of(struct rx *rx, uint32_t what, const uint8_t *bytes, uint32_t length, int known)
{
    uint8_t key[KEY];
    uint32_t places[2];

    if (what == RX_ADDRESS) {
        if (make_key(key, bytes, length) != 0)
            return;
        bytes = key;
        length = KEY;
    }
    places_of(rx, what, bytes, length, places);
    for (int at = 0; at < 2; at++) {
        uint16_t *count = &rx->familiar[places[at]];

        /* One that was full is never told to be empty again. */
        if (*count < UINT16_MAX && (known || *count > 0))
            *count = (uint16_t)(*count + (known ? 1 : -1));
    }
}

void rx_guard(struct rx *rx)
{
    rx->guarded = 1;
}

/* Whether a check names somebody, by what stands before the colon. */
static int names_one(const struct rx *rx, const uint8_t *data, uint32_t length)
{
    uint32_t at = STUN_HEADER;

    for (int front = 0; front < FRONT && at + 4 <= length; front++) {
        uint32_t size = get16(data + at + 2), left = length - at - 4, end = 0;

        if (get16(data + at) == NAMES_USER) {
            if (size > left)
                size = left;
            while (end < size && data[at + 4 + end] != ':')
                end++;
            return is_familiar(rx, RX_NAME, data + at + 4, end);
        }
        at += 4 + size + (-size & 3);
    }
    return 0;
}

static int may_be_meant(struct rx *rx, const uint8_t *key, const uint8_t *data, uint32_t length)
{
    if (length == 0)
        return 0;
    if (is_familiar(rx, RX_ADDRESS, key, KEY))
        return 1;
    if (data[0] > 3)
        return data[0] >= 128 && data[0] <= 191 && length >= RTP_HEADER &&
               spend(&rx->strays, &rx->strays_at, rx->now, STRAYS, STRAYS);
    if (length < STUN_HEADER)
        return 0;
    if (get16(data) == STUN_REQUEST)
        return names_one(rx, data, length);
    return is_familiar(rx, RX_TRANSACTION, data + 8, STUN_TRANSACTION);
}

int is_for_nobody(struct rx *rx, const uint8_t *key, const uint8_t *data, uint32_t length)
{
    if (!rx->guarded || may_be_meant(rx, key, data, length))
        return 0;
    rx->counts.strangers++;
    return 1;
}

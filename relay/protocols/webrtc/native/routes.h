/* Who is at an address: a table of those who are heard, by their address and ours. */
#ifndef RELAY_ROUTES_H
#define RELAY_ROUTES_H

#include "receiver.h"

#include <string.h>

#define KEY sizeof(((struct rx_route *)0)->key)
#define HASHED 24              /* bytes of it: all but an IPv6 address of ours */

/* 0, or -1 for another family. */
static inline int make_key(uint8_t *key, const uint8_t *address, uint32_t length)
{
    sa_family_t family;

    memset(key, 0, KEY);
    if (length < sizeof family)
        return -1;
    memcpy(&family, address, sizeof family);
    if (family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in four;

        memcpy(&four, address, sizeof four);
        key[0] = 4;
        memcpy(key + 2, &four.sin_port, 2);
        memcpy(key + 4, &four.sin_addr, 4);
        if (length >= sizeof four + sizeof four.sin_addr)
            memcpy(key + 8, address + sizeof four, sizeof four.sin_addr);
        return 0;
    }
    if (family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 six;

        memcpy(&six, address, sizeof six);
        key[0] = 6;
        memcpy(key + 2, &six.sin6_port, 2);
        memcpy(key + 4, &six.sin6_addr, 16);
        memcpy(key + 20, &six.sin6_scope_id, 4);
        if (length >= sizeof six + OURS)
            memcpy(key + HASHED, address + sizeof six, OURS);
        return 0;
    }
    return -1;
}

static inline uint32_t slot_of(const struct rx *rx, const uint8_t *key)
{
    uint64_t hash = rx->seed;

    for (size_t at = 0; at < HASHED; at += 8) {
        uint64_t word;

        memcpy(&word, key + at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return (uint32_t)(hash >> 16) & (ROUTES - 1);
}

static inline struct rx_route *find(const struct rx *rx, const uint8_t *key, uint32_t *where)
{
    uint32_t slot = slot_of(rx, key);

    while (rx->table[slot] != NULL && memcmp(rx->table[slot]->key, key, KEY) != 0)
        slot = (slot + 1) & (ROUTES - 1);
    *where = slot;
    return rx->table[slot];
}

#pragma GCC visibility push(hidden)

/* Have an address led to ``route``, in place of whoever has it; 0, or -1. */
int lead(struct rx *rx, struct rx_route *route, const uint8_t *address, uint32_t length);

/* Nobody is at its address any more. */
void unroute(struct rx *rx, struct rx_route *route);

/* Where a checking viewer is: 4 or 16 bytes, one of IPv4 behind a socket of both told as such. */
uint32_t host_of(const uint8_t *key, const uint8_t **host);

#pragma GCC visibility pop

#endif

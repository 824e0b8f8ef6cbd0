/*
 * Changes to the table of who is at which address. A route that leaves it makes no hole in the way
 * of others: each is found from its own slot on.
 */

#define _GNU_SOURCE
#include "routes.h"

#define MOST_ROUTES 8192

/* Empty its slot, and move those behind it up that would not be found any more. */
void unroute(struct rx *rx, struct rx_route *route)
{
    uint32_t slot, hole;

    if (!route->routed || find(rx, route->key, &hole) != route)
        return;
    route->routed = 0;
    rx->routes--;
    rx->table[hole] = NULL;
    for (slot = (hole + 1) & (ROUTES - 1); rx->table[slot] != NULL;
         slot = (slot + 1) & (ROUTES - 1)) {
        uint32_t home = slot_of(rx, rx->table[slot]->key);

        if (((slot - home) & (ROUTES - 1)) >= ((slot - hole) & (ROUTES - 1))) {
            rx->table[hole] = rx->table[slot];
            rx->table[slot] = NULL;
            hole = slot;
        }
    }
}

int lead(struct rx *rx, struct rx_route *route, const uint8_t *address, uint32_t length)
{
    uint8_t key[KEY];
    uint32_t where;
    struct rx_route *holder;

    if (make_key(key, address, length) != 0)
        return -1;
    if (route->routed && memcmp(key, route->key, KEY) == 0)
        return 0;
    unroute(rx, route);
    holder = find(rx, key, &where);
    if (holder != NULL) {
        if (holder->kind == STREAM)
            ((struct rx_stream *)holder)->active = 0;
        unroute(rx, holder);
        find(rx, key, &where);
    }
    if (rx->routes >= MOST_ROUTES)
        return -1;
    memcpy(route->key, key, KEY);
    rx->table[where] = route;
    rx->routes++;
    route->routed = 1;
    return 0;
}

void rx_forget(struct rx *rx, const uint8_t *address, uint32_t length)
{
    uint8_t key[KEY];
    uint32_t where;
    struct rx_route *route;

    if (make_key(key, address, length) == 0 && (route = find(rx, key, &where)) != NULL)
        unroute(rx, route);
}

uint32_t host_of(const uint8_t *key, const uint8_t **host)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    *host = key + 4;
    if (key[0] == 4)
        return 4;
    if (memcmp(*host, mapped, sizeof mapped) != 0)
        return 16;
    *host += sizeof mapped;
    return 4;
}

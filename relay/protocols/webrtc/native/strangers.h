/* What comes from where nobody is: whether anyone may want it. */
#ifndef RELAY_STRANGERS_H
#define RELAY_STRANGERS_H

#include "receiver.h"

#pragma GCC visibility push(hidden)

/* Whether a datagram from there, where no route leads, is for nobody; it is then counted. */
int is_for_nobody(struct rx *rx, const uint8_t *key, const uint8_t *data, uint32_t length);

#pragma GCC visibility pop

#endif

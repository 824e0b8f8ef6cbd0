/* When the socket is read next. */
#ifndef RELAY_WAITING_H
#define RELAY_WAITING_H

#include "receiver.h"

#pragma GCC visibility push(hidden)

double clock_now(void);

/* At the end of a turn: what wakes the next one. */
void rest(struct rx *rx);

#pragma GCC visibility pop

#endif

/* Viewers of other processes: what one process reads, another deals with. */
#ifndef RELAY_FAR_H
#define RELAY_FAR_H

#include "receiver.h"

#pragma GCC visibility push(hidden)

/* Hand on what is looked at. */
void pass(struct rx *rx, struct rx_far *far, uint32_t length);

/* Of ``count`` that were handed on: how many came whole; the end of the stream is none. */
int unwrap(struct rx *rx, int count);

#pragma GCC visibility pop

#endif

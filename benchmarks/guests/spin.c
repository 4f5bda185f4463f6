/* Never ends. */
#include "abi.h"

static volatile uint32_t turns;

GUEST(run) {
    for (;;) turns++;
}

/* `_initialize` never ends. */
#include "fuseboard.h"

static volatile uint32_t spinning;

FUSEBOARD_EXPORT(_initialize)
{
    for (;;) spinning++;
}

FUSEBOARD_EXPORT(run) {}

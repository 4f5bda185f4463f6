/* Declares 65 MiB of initial memory: one more than the default limit. */
#include "fuseboard.h"

static volatile char large[65u << 20];

FUSEBOARD_EXPORT(run) { large[0] = 1; }

/* Declares more than 65 MiB of initial memory: above the default limit of 64. */
#include "fuseboard.h"

static volatile char large[65u << 20];

FUSEBOARD_EXPORT(run) { large[0] = 1; }

/* `_initialize` sets what the hook gives back, and counts how often it ran. */
#include "fuseboard.h"

static volatile char runs = '0';

FUSEBOARD_EXPORT(_initialize) { runs++; }

FUSEBOARD_EXPORT(run)
{
    char output[] = {'"', runs, '"'};
    fb_output_write(output, sizeof(output));
}

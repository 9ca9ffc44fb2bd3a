/* Definitions that the static libstdc++ of a newer system needs and that glibc 2.28 does not have.
   They are linked only into the wheels that `nox -s wheel` builds. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* libstdc++ skips atomic operations if this is true. False is always correct. */
char __libc_single_threaded = 0;

uint32_t arc4random(void) {
  uint32_t value;
  if (getentropy(&value, sizeof value) != 0) abort();
  return value;
}

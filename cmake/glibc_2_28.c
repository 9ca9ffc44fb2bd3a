/* What the static libstdc++ of a newer system takes from its C library and glibc 2.28 does not
   have. Linked into wheels of `nox -s wheel` only. */
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

#pragma once

#include <cstdint>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// Entries that take part: none given, one flag a row, or one an entry (both contiguous bytes).
enum class MaskKind : int { kNone = 0, kRow = 1, kEntry = 2 };

// Maps each column of x onto [0, 1] in `out`, contiguous and of the dtype computed with. `keys` is
// scratch of 2 * columns * 8 bytes. A row with a number that is not finite lowers `first_bad`, and
// nothing is written to `out` then.
void minmax(const Matrix& x, std::uintptr_t mask, MaskKind mask_kind, const Matrix& out,
            std::uintptr_t keys, std::uintptr_t first_bad, Stream stream);

}  // namespace rlmba::cuda

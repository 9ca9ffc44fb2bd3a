#pragma once

#include <cstdint>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

// Which entries are used: all, one flag per row, or one flag per entry (contiguous bytes).
enum class MaskKind : int { kNone = 0, kRow = 1, kEntry = 2 };

// Maps each column of x to [0, 1] in `out`, contiguous and of the computation dtype. `keys` is
// scratch memory of 2 * columns * 8 bytes. A row with a number that is not finite lowers
// `first_bad`; nothing is then written to `out`.
void minmax(const Matrix& x, std::uintptr_t mask, MaskKind mask_kind, const Matrix& out,
            std::uintptr_t keys, std::uintptr_t first_bad, Stream stream);

}  // namespace rlmba::cuda

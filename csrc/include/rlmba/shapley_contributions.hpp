#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// M parts [N, C] of the fused logits, the class [N] whose probability is divided among the
// modalities, the bias [C], and which modalities a row has ([N, M], or null for all).
//
// Coalition 0 is empty, coalition c >= 1 is coalition parent[c] < c and modality added[c]. The
// value of a modality is the sum of share * (worth[after] - worth[before]) over its terms.
template <class T>
struct ShapleyInput {
  const MatrixView<const T>* parts;
  std::int64_t modalities;
  const std::int64_t* labels;
  const double* bias;
  const std::uint8_t* present;

  std::int64_t coalitions;
  const std::int64_t* parent;
  const std::int64_t* added;

  std::int64_t terms;
  const std::int64_t* modality;
  const std::int64_t* before;
  const std::int64_t* after;
  const double* share;
};

// Writes the values [N, M]. Returns -1, or the first row that is not finite, in which case `values`
// is unspecified. Every index is within its range; M >= 1, C >= 1.
#define RLMBA_DECLARE_SHAPLEY                                                           \
  std::int64_t shapley_contributions(const ShapleyInput<float>& input, double* values); \
  std::int64_t shapley_contributions(const ShapleyInput<double>& input, double* values);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_SHAPLEY)
#undef RLMBA_DECLARE_SHAPLEY

}  // namespace rlmba

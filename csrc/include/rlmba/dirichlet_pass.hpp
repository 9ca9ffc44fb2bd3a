#pragma once

#include "rlmba/dirichlet_rows.hpp"
#include "rlmba/parallel.hpp"
#include "rlmba/rescale.hpp"
#include "rlmba/scratch.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Rows per thread and step. Rows are independent, so results do not depend on it.
inline constexpr std::int64_t kPassRows = 256;

// Extends ranges [M] by the u_m of the present modalities of rows [begin, end).
template <class T>
RLMBA_INLINE void add_ranges(const DirichletInput<T>& in, const T* modality, std::int64_t begin,
                             std::int64_t end, Range<T>* ranges) {
  const std::int64_t m = in.modalities;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t k = 0; k < m; ++k) {
      if (!is_absent(in, i, k)) ranges[k].add(modality[i * m + k]);
    }
  }
}

template <class T, class E>
std::int64_t dirichlet_pass_as(const DirichletInput<T>& in, T* modality, T* fused,
                               Range<T>* ranges) {
  const std::int64_t m = in.modalities;
  const std::int64_t n = in.x[0].rows;
  const std::int64_t threads = max_threads();
  Scratch<Temperature> temperatures(m);
  for (std::int64_t k = 0; k < m; ++k) {
    temperatures[k] = Temperature::of(E::kBase == 0.0f ? 1.0 : in.temperatures[k]);
  }
  // Padded so that no two threads write to the same cache line.
  const std::int64_t stride = m + 16;
  Scratch<Symmetric> sums(threads * stride);
  Scratch<double> weights(threads * stride);
  Scratch<double> fused_alpha(threads * kBlockColumns);
  Scratch<VectorSums> lanes(threads * (m + 1) * kLanes);
  for (std::int64_t k = 0; k < threads * (m + 1) * kLanes; ++k) lanes[k] = VectorSums{};
  Scratch<Range<T>> seen(threads * stride);
  for (std::int64_t k = 0; k < threads * stride; ++k) seen[k] = Range<T>{};
  const DirichletRows<T, E> rows(in, temperatures.data());
  std::int64_t bad = n;
  const auto process = [&](std::int64_t begin, std::int64_t end, std::int64_t thread) {
    const std::int64_t mine = thread * stride;
    const typename DirichletRows<T, E>::Work work{&sums[mine], &weights[mine],
                                                  &lanes[thread * (m + 1) * kLanes],
                                                  &fused_alpha[thread * kBlockColumns]};
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const std::int64_t count = min_i64(kLanes, end - i);
      const std::int64_t valid =
          rows.group(i, count, work, modality + i * m, fused == nullptr ? nullptr : fused + i);
      if (valid < count) {
        lower(bad, i + valid);
        break;
      }
      if (ranges != nullptr) add_ranges(in, modality, i, i + count, &seen[mine]);
    }
  };
  parallel_for(n, kPassRows, threads, process);
  if (ranges != nullptr) {
    for (std::int64_t k = 0; k < threads * stride; ++k) {
      if (k % stride < m) ranges[k % stride].merge(seen[k]);
    }
  }
  return bad < n ? bad : -1;
}

// Variances of every row; `ranges` [M], unless null, is extended by the u_m of present modalities.
// Returns -1 or the first bad row.
template <class T>
std::int64_t dirichlet_pass(const DirichletInput<T>& in, T* modality, T* fused, Range<T>* ranges) {
  switch (in.evidence) {
    case Evidence::alpha:
      return dirichlet_pass_as<T, IsAlpha>(in, modality, fused, ranges);
    case Evidence::exp:
      return dirichlet_pass_as<T, Exponential>(in, modality, fused, ranges);
    case Evidence::relu:
      return dirichlet_pass_as<T, Rectifier>(in, modality, fused, ranges);
    default:
      return dirichlet_pass_as<T, Softplus>(in, modality, fused, ranges);
  }
}

}  // namespace rlmba::RLMBA_ISA
#endif

#include "rlmba/dirichlet_variance.hpp"

#include "rlmba/dirichlet_pass.hpp"

namespace rlmba::RLMBA_ISA {

std::int64_t dirichlet_variance(const DirichletInput<float>& in, float* modality, float* fused) {
  return dirichlet_pass(in, modality, fused, static_cast<Range<float>*>(nullptr));
}

std::int64_t dirichlet_variance(const DirichletInput<double>& in, double* modality, double* fused) {
  return dirichlet_pass(in, modality, fused, static_cast<Range<double>*>(nullptr));
}

}  // namespace rlmba::RLMBA_ISA

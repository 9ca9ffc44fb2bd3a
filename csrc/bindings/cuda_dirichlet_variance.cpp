#include <pybind11/stl.h>

#include "../../kernels/dirichlet_variance/dirichlet_variance.cuh"
#include "cuda.hpp"

namespace rlmba::bindings {

void register_dirichlet_variance(py::module_& m) {
  m.def(
      "dirichlet_variance",
      [](const std::vector<cuda::Matrix>& x, int evidence, const std::vector<double>& temperatures,
         const std::vector<double>& weights, std::uintptr_t row_weights, std::uintptr_t present,
         std::int64_t first_row, std::uintptr_t modality, std::uintptr_t fused,
         std::uintptr_t extremes, std::uintptr_t unfinished, std::uintptr_t first_bad,
         cuda::Stream stream) {
        cuda::dirichlet_variance(
            {x, static_cast<cuda::Evidence>(evidence), temperatures, weights, row_weights, present,
             first_row, modality, fused, extremes, unfinished, first_bad},
            stream);
      },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace rlmba::bindings

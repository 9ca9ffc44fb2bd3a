#include "../../kernels/minmax/minmax.cuh"
#include "cuda.hpp"

namespace rlmba::bindings {

void register_minmax(py::module_& m) {
  m.def(
      "minmax",
      [](const cuda::Matrix& x, std::uintptr_t mask, int mask_kind, const cuda::Matrix& out,
         std::uintptr_t keys, std::uintptr_t first_bad, cuda::Stream stream) {
        cuda::minmax(x, mask, static_cast<cuda::MaskKind>(mask_kind), out, keys, first_bad, stream);
      },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace rlmba::bindings

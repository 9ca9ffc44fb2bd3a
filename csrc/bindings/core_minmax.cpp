#include <pybind11/stl.h>

#include <optional>

#include "core.hpp"
#include "output.hpp"
#include "rlmba/minmax.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t minmax(const Array<T>& x, const std::optional<Array<bool>>& mask, Array<T>& out) {
  const auto view = matrix_view(x);
  T* to = output(out, view.rows * view.cols);
  Mask kept{nullptr, 0, 0};
  if (mask) {
    if (!(mask->flags() & py::array::c_style) || mask->ndim() > 2 || mask->ndim() < 1 ||
        mask->shape(0) != view.rows || (mask->ndim() == 2 && mask->shape(1) != view.cols)) {
      throw std::invalid_argument("expected a contiguous mask of shape [N] or [N, M]");
    }
    const bool whole = mask->ndim() == 2;
    kept = {reinterpret_cast<const std::uint8_t*>(mask->data()), whole ? view.cols : 1,
            whole ? 1 : 0};
  }
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(minmax, view, kept, to);
}

template <class T>
void define(py::module_& m) {
  m.def("minmax", &minmax<T>, py::arg("x").noconvert(), py::arg("mask").noconvert(),
        py::arg("out").noconvert());
}

}  // namespace

void register_minmax(py::module_& m) {
  define<float>(m);
  define<double>(m);
}

}  // namespace rlmba::bindings

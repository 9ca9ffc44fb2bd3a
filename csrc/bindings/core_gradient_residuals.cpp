#include "core.hpp"
#include "output.hpp"
#include "rlmba/gradient_residuals.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t gradient_residuals(const Array<T>& logits, Array<T>& out) {
  const auto rows = matrix_view(logits);
  if (rows.cols < 1) throw std::invalid_argument("expected a class");
  T* to = output(out, rows.rows * rows.cols);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(gradient_residuals, rows, to);
}

}  // namespace

void register_gradient_residuals(py::module_& m) {
  m.def("gradient_residuals", &gradient_residuals<float>, py::arg("logits").noconvert(),
        py::arg("out").noconvert());
  m.def("gradient_residuals", &gradient_residuals<double>, py::arg("logits").noconvert(),
        py::arg("out").noconvert());
}

}  // namespace rlmba::bindings

#pragma once

#include <optional>
#include <vector>

#include "core.hpp"
#include "output.hpp"
#include "rlmba/dirichlet_variance.hpp"

namespace rlmba::bindings {

// A DirichletInput that borrows the arrays of Python's arguments, which must outlive it.
template <class T>
class DirichletArguments {
 public:
  DirichletArguments(const std::vector<Array<T>>& x, int evidence,
                     const Array<double>& temperatures, const std::optional<Array<double>>& weights,
                     const std::optional<Array<bool>>& present) {
    if (x.empty()) throw std::invalid_argument("expected at least one modality");
    for (const auto& a : x) views_.push_back(matrix_view(a));
    const auto m = static_cast<std::int64_t>(views_.size());
    for (const auto& v : views_) {
      if (v.rows != views_[0].rows || v.cols != views_[0].cols || v.cols < 1) {
        throw std::invalid_argument("expected modalities of one shape with at least one class");
      }
    }
    if (evidence < 0 || evidence > 3) throw std::invalid_argument("unknown evidence");
    if (vector_view(temperatures).size != m) throw std::invalid_argument("expected M temperatures");
    input_ = {views_.data(), m, static_cast<Evidence>(evidence), temperatures.data(), nullptr, 0,
              nullptr};
    if (weights) set_weights(matrix_view(*weights));
    if (present) {
      if (!(present->flags() & py::array::c_style) || present->size() != rows() * m) {
        throw std::invalid_argument("expected present as a contiguous [N, M] array");
      }
      input_.present = reinterpret_cast<const std::uint8_t*>(present->data());
    }
  }

  const DirichletInput<T>& input() const { return input_; }
  std::int64_t rows() const { return views_[0].rows; }
  std::int64_t modalities() const { return input_.modalities; }

 private:
  void set_weights(MatrixView<const double> w) {
    if (w.cols != modalities() || (w.rows != 1 && w.rows != rows())) {
      throw std::invalid_argument("expected weights of shape [1, M] or [N, M]");
    }
    input_.weights = w.data;
    input_.weight_stride = w.rows == 1 ? 0 : w.stride;
  }

  std::vector<MatrixView<const T>> views_;
  DirichletInput<T> input_;
};

}  // namespace rlmba::bindings

#pragma once

#include <string>
#include <vector>

namespace rlmba::cuda {

struct DeviceInfo {
  std::string name;
  int major;
  int minor;
  int multiprocessors;
  std::size_t memory_bytes;
};

// Devices reported by the driver; empty without a driver. Never throws for a missing driver.
std::vector<DeviceInfo> devices();

// Version of the statically linked CUDA runtime, as major * 1000 + minor * 10.
int runtime_version();

// Newest CUDA version that the driver supports, in the same encoding; 0 without a driver.
int driver_version();

}  // namespace rlmba::cuda

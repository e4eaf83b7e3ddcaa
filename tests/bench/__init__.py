"""What ``make bench`` measures: a service's data path and the controller, as ratios within one run."""

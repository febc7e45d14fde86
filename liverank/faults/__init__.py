"""A seeded schedule of faults over a recorded workload, and a checker that reads every topic back."""

//! Results for people: tables, plots, the run's folder.

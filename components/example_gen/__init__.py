"""ExampleGen: raw logs to length-annotated examples, by the Beam job of beam_jobs."""

"""A real Apache Kafka for the tests: its jars' pom and the class that starts, stops, kills and pauses one."""

-- Flights of {{ ds }} per hour and airport: how many, how late, and in what weather.
SELECT
    flights.time_hour,
    flights.origin,
    count(*) AS flights,
    count(*) - count(flights.dep_delay) AS cancelled,
    round(avg(flights.dep_delay), 1) AS mean_dep_delay,
    any_value(weather.temp) AS temp,
    round(any_value(weather.wind_speed), 1) AS wind_speed,
    any_value(weather.precip) AS precip,
    any_value(weather.visib) AS visib
FROM flights
LEFT JOIN weather ON weather.time_hour = flights.time_hour AND weather.origin = flights.origin
GROUP BY flights.time_hour, flights.origin
ORDER BY flights.time_hour, flights.origin

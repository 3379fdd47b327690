module example.com/functions/echo

go 1.21

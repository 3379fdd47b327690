module example.com/functions/hello

go 1.21

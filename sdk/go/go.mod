module orama

go 1.24

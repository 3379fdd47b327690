module example.com/chance

go 1.24

"""paribus: does this architectural choice make a language model better, and by how much, when nothing else differs?"""
